//! The adapters. Below here is the only code that touches the host; nothing here decides.

mod admin_socket; // one question to a daemon of Ceph
pub(crate) mod boot; // which boot of the machine this is
pub(crate) mod bundle; // where the node bundle lies
pub(crate) mod ceph; // the monitors' stores and permissions
mod credentials; // encryption for the disk
pub(crate) mod exec; // programs that are run
pub(crate) mod files; // whole files: read, written, watched
pub(crate) mod firmware; // what SMBIOS says about the machine
pub(crate) mod frr; // the routing sessions, by vtysh
pub(crate) mod libvirt; // libvirt's daemon, and KVM
pub(crate) mod memory; // what the agent remembers on the disk
pub(crate) mod netlink; // links, addresses, routes, parameters of the network
pub(crate) mod osds; // disks, and wishes for OSDs on them
pub(crate) mod patroni; // Patroni, by its REST API
pub(crate) mod pools; // the whole of Ceph, as its monitors say
mod rados; // commands to Ceph's monitors
pub(crate) mod support; // what a support bundle holds
pub(crate) mod systemd; // units by D-Bus, and the files that they read
mod turns; // a node's place in the turns of a service
pub(crate) mod zookeeper; // ZooKeeper's data directory and server
