//! What runs before a node's agent: the initrd's steps, from the disk that was booted to root and /var, and what the
//! installation does to disks and firmware.

pub mod block; // disks and partitions, as udev describes them
pub mod boot_entries; // the node's boot entries in the firmware
pub mod config; // the bundles of a medium
pub mod efi; // the firmware's variables
pub mod esp; // the boot loader and the system on the node's disk
pub mod exec; // the one door to other programs
pub mod install; // the installation of a node on a disk
pub mod root; // stage `root`: the disk that was booted, and its root
pub mod var; // stage `var`: /var on that disk, or in memory
