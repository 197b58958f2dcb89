//! What a Trilith node should be, and which steps lead there. Pure: no runtime, no I/O, no clock.

pub mod belonging; // whom a machine belongs to
pub mod boot; // from which disk a machine was booted
pub mod bundle; // what one node gets
pub mod ceph; // the coordinator's Ceph monitor and manager
pub mod config; // the cluster file: YAML text -> merged -> valid Config
pub mod diagnosis; // what a person asks a node for when something is wrong
pub mod disks; // what a disk is, and whether a rule means it
pub mod efi; // what the firmware starts, and the node's own boot entries
pub mod evacuate; // machines leave a node: what is wished for, and how far it is
pub mod explain; // every derived value of a node with its derivation
pub mod frr; // the routing sessions of a node
pub mod gate; // whether a boot on trial has brought back what the node was part of
#[cfg(test)]
mod golden; // golden plans: one test per subject
pub mod identity; // which of many bundles is this machine's
pub mod install; // from a medium to a disk
pub mod keep; // /var of a node that is not installed
pub mod libvirt; // the storage secret in libvirt, and whether KVM works
pub mod machines; // machines that run on a node, and what keeps them there
pub mod names; // small valid values: NodeId, IfName, VlanId, Mtu, …
pub mod netboot; // what a netboot server and a node that boots from it say to each other
pub mod network; // links, addresses, routes and sysctls of the core networks
pub mod node; // what the cluster file means for each subject of one node
pub mod operators; // how operators reach a node's agent
pub mod osds; // the OSDs on the node's disks
pub mod packages; // what changes between the packages of two releases
pub mod patroni; // the coordinator's Patroni and its Postgres
pub mod pauses; // pauses that grow
pub mod peers; // what the agents tell each other
pub mod pools; // Ceph's pools, and how the whole cluster stands
pub mod quorum; // form or join: when a coordinator with an empty data directory may do which
pub mod release; // what a release says of itself, and the ways to it
pub mod render; // what the services of a node read
pub mod sealed; // a bundle that one TPM alone can open
pub mod secrets; // what one node must keep to itself
pub mod services; // the units that run on a node, and the files that they read
pub mod sighting; // what a node without a bundle tells the person in front of it
pub mod status; // what a node says about itself
pub mod subject; // the one trait: Desired, Observed, Step, plan()
pub mod turns; // which coordinator may restart its part of a service next
pub mod update; // from one release to another, on a disk that was installed
pub mod version; // versions, and which of two is newer
pub mod wave; // a release goes over the whole cluster, one node at a time
pub mod zookeeper; // the coordinator's ZooKeeper server and its data directory
