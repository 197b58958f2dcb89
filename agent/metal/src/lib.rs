//! What runs before a node's agent: the initrd's steps, from the disk that was booted to root and /var, and what the
//! installation does to disks and firmware.

pub mod block; // disks and partitions, as udev describes them
pub mod boot_entries; // the node's boot entries in the firmware
mod candidate; // a disk that may be taken, and what is on it
pub mod config; // the bundles of a medium
pub mod efi; // the firmware's variables
pub mod esp; // the boot loader and the system on the node's disk
pub mod exec; // the one door to other programs
pub mod held; // the releases in the slots of disks
pub mod install; // the installation of a node on a disk
pub mod keep; // the disk of a node's /var that is not installed
pub mod machine; // what tells this machine from others
pub mod mounted; // a file system for a moment
mod repart; // partitions, as definitions ask for them
pub mod root; // stage `root`: the disk that was booted, and its root
pub mod slot; // a release in a slot
mod state; // what /var holds from the beginning
pub mod table; // the partition table
pub mod trial; // the trial of a release, as the ESP shows it
pub mod var; // stage `var`: /var on that disk, or in memory
