//! The image in virtual machines. Needs root, the tools tree and an image; `ci/vm` makes and runs all of it.
//!
//! A boot is what costs time, so a test here is one boot and everything that is to be seen in it.

mod bonds; // bonds and VLANs, NICs pulled and put back
mod bundles; // bundles on a medium that are not for this machine, or spoiled
mod checkers; // every rendered file, taken by the service that reads it
mod cuts; // power cuts in the middle of an installation
mod disc; // a node installed from a disc that stays in its drive
mod faults; // the fault matrix of upgrades
mod harness; // what the other tests lean on
mod homelab; // one node of the example cluster: converged, closed, restarted, reloaded, corrupted
mod install; // a node installed from a stick
mod kept; // a /var on a disk of its own, on loop devices
mod kernel; // unit tests on the kernel of the image
mod loops; // an installation onto loop devices, step by step
mod medium; // what `trilith usb` does to a real disk
mod netboot; // nodes that start from the network
mod reinstall; // another release over the one that a node was installed with
mod releases; // keys and releases, with the real tools
mod samples; // the other sample files
mod screen; // the status screen on the serial line
mod site; // an image with an operator's own additions
mod trial; // a release on trial: proven, or not in time
mod trio; // a whole cluster from one stick
mod unknown; // a machine that no bundle has told who it is
mod updates; // a release comes into the free slot, on loop devices
mod upgrade; // from release to release, and what is refused
mod usb; // nodes that start from a medium
