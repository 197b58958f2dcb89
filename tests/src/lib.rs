//! Harness for whole-program tests: throw-away networks and virtual machines on the real kernel.
//!
//! A test makes its [`network::Network`] first; every program and thread that it starts afterwards lives in
//! it. Guards end what they started when they go out of scope, and QEMU dies with its test.

pub mod accel; // whether KVM truly works here
pub mod artifact; // what was built: programs, image, tools tree
pub mod build; // a build in small
pub mod clients; // clients of a cluster in the lab, and what they see
pub mod cluster; // a cluster file under test, and its cables
pub mod command; // programs of the host, and what to say when they fail
pub mod console; // a machine's serial console
pub mod firmware; // starts nodes of a lab that are off
pub mod installed; // what is on an installed disk, seen from outside
pub mod lab; // a whole cluster in containers on this host
pub mod laid; // a disk as an installation leaves it
pub mod loops; // files as disks
pub mod machine; // a virtual machine in QEMU
pub mod medium; // a spoiled medium
pub mod netboot; // nodes that start from the network
pub mod network; // a network namespace with switches in it
pub mod node; // a node that boots the image with a bundle
pub mod operator; // keys and releases
pub mod program; // a program that runs beside a test
pub mod qmp; // QEMU's control socket
pub mod quorums; // where a cluster in the lab stands
pub mod rehearsal; // an upgrade of an operator's own cluster, in the lab
pub mod release; // a release in small
pub mod server; // a web server with releases
pub mod trip; // the way of a node from one release to the next
pub mod uki; // UKIs taken apart and put together
pub mod upgrade; // what is wished of a node that is upgraded, and where it ended
pub mod vlan; // tagged ports in user space
