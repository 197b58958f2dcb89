//! What the services of a node read: every configuration file as a pure function of the cluster file, the node and
//! its secrets. One file per service; each says in its comments why a setting is what it is.
//!
//! What a service must keep to itself lies below `/run/trilith/<service>`, in memory; the rest lies where the service
//! looks for it, in the layer over `/etc` that the agent fills at each boot.

pub mod ceph; // ceph.conf and keyrings
pub mod chrony; // chrony.conf
pub mod firewall; // nftables' rules
pub mod frr; // frr.conf and which daemons run
pub mod host; // host name, hosts, resolv.conf
pub mod journal; // how much is kept, and where it is sent
pub mod libvirt; // libvirtd.conf, qemu.conf and their certificates
pub mod patroni; // patroni.yml with Postgres in it
pub mod ports; // who listens where
pub mod ssh; // who may log in
mod tls; // a service's own copy of the node's certificate
pub mod wave; // the settings of the wave's program
pub mod zookeeper; // zoo.cfg and its certificates

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use crate::config::{Config, NetworkName, Node, Role};
use crate::names::NodeId;
use crate::secrets::NodeSecrets;
use crate::services::{Desired, Limits};

/// What all files of one node are made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The whole cluster.
    pub config: &'a Config,
    /// The node.
    pub node: &'a Node,
    /// What it must keep to itself.
    pub secrets: &'a NodeSecrets,
}

impl<'a> Facts<'a> {
    /// The facts of a node; `None` if the cluster has no such node.
    pub fn new(config: &'a Config, id: NodeId, secrets: &'a NodeSecrets) -> Option<Self> {
        Some(Self { config, node: config.node(id)?, secrets })
    }

    /// Whether the node carries the quorums.
    fn coordinates(&self) -> bool {
        self.node.role == Role::Coordinator
    }

    /// Where this node's own services listen on a network.
    ///
    /// A checked cluster file gives every node an address on every core network. Were there none, loopback is the
    /// answer that opens nothing.
    fn own(&self, network: NetworkName) -> IpAddr {
        address(self.node, network).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Every coordinator with its address on a network, by ID.
    fn coordinators(&self, network: NetworkName) -> impl Iterator<Item = (&'a Node, IpAddr)> {
        let nodes = self.config.coordinator_nodes();
        nodes.filter_map(move |node| Some((node, address(node, network)?)))
    }

    /// The node's name with the cluster's domain.
    fn full_name(&self, node: &Node) -> String {
        format!("{}.{}", node.name, self.config.domain)
    }

    /// The subject of a node's certificate, one common name and nothing else: so written it is the same in the
    /// notations of Java, GnuTLS and OpenSSL, and has nothing that they would escape.
    fn certificate_subject(&self, node: &Node) -> String {
        format!("CN={}", self.full_name(node))
    }
}

/// The address by which a node is reached on a network: the first, IPv4 if there is one.
pub(crate) fn address(node: &Node, network: NetworkName) -> Option<IpAddr> {
    Some(node.network(network)?.addresses.first()?.address.addr())
}

/// An address as it stands before `:port`.
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Everything that runs on the node and what it reads.
pub fn services(facts: Facts<'_>) -> Desired {
    let mut all = Desired::default();
    for part in [
        host::desired(facts),
        journal::desired(facts),
        firewall::desired(facts),
        ssh::desired(facts),
        chrony::desired(facts),
        frr::desired(facts),
        libvirt::desired(facts),
        ceph::desired(facts),
        zookeeper::desired(facts),
        patroni::desired(facts),
        wave::desired(facts),
    ] {
        all.add(part);
    }
    all
}

/// Where subjects leave their permissions, as empty files: gone at each boot, so that what was right then is looked at
/// again.
const PERMITS: &str = "/run/trilith/permits";

/// The share of what others lean on: small, and before all others when the machine is busy.
fn before_others() -> Limits {
    Limits { cpu_weight: Some(1000), io_weight: Some(1000), ..Limits::default() }
}

/// Says in every file who wrote it.
const HEADER: &str = "# Written by trilithd from the cluster file; changes here are undone.\n";
