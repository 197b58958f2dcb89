//! The adapters. Below here is the only code that touches the host; nothing here decides.

pub(crate) mod boot; // which boot of the machine this is
pub(crate) mod bundle; // where the node bundle lies
mod credentials; // encryption for the disk
mod exec; // programs that are run
pub(crate) mod files; // whole files: read, written, watched
pub(crate) mod firmware; // what SMBIOS says about the machine
pub(crate) mod memory; // what the agent remembers on the disk
pub(crate) mod netlink; // links, addresses, routes, parameters of the network
pub(crate) mod systemd; // units by D-Bus, and the files that they read
pub(crate) mod zookeeper; // ZooKeeper's data directory and server
