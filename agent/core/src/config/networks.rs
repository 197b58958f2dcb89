//! Core networks: for the cluster as a whole, and as one node sits on them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{IfName, Mtu};

/// The three core networks.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkName {
    /// Towards the users and the world; it alone has a gateway.
    Upstream,
    /// Between the nodes: coordination, migration, routing of guest networks.
    Cluster,
    /// Ceph's traffic.
    Storage,
}

impl NetworkName {
    /// All of them, in the order of the cluster file.
    pub const ALL: [Self; 3] = [Self::Upstream, Self::Cluster, Self::Storage];

    /// The name in the cluster file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Cluster => "cluster",
            Self::Storage => "storage",
        }
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The core networks of the cluster. A network that is the same as another (`same_as`) is not listed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Networks {
    /// The networks that differ, one to three of them.
    pub distinct: Vec<Network>,
}

impl Networks {
    /// The network that carries `name`, its own or the one it shares.
    pub fn get(&self, name: NetworkName) -> Option<&Network> {
        self.distinct.iter().find(|network| network.carries(name))
    }
}

/// One distinct core network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Its own name.
    pub name: NetworkName,
    /// The networks that are the same as this one (`same_as`).
    pub shared_by: Vec<NetworkName>,
    /// One per address family at most, IPv4 first; at least one.
    pub subnets: Vec<Subnet>,
}

impl Network {
    /// Whether it is this network or shared by it.
    pub fn carries(&self, name: NetworkName) -> bool {
        self.name == name || self.shared_by.contains(&name)
    }
}

/// The addresses of one family on a core network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subnet {
    /// Network address and prefix length, no host bits set.
    pub net: IpNet,
    /// Where the default route leads; on the upstream network only.
    pub gateway: Option<IpAddr>,
    /// The address that the primary coordinator holds.
    pub floating: Option<IpAddr>,
}

/// How one node sits on one distinct core network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeNetwork {
    /// The network's own name.
    pub name: NetworkName,
    /// The networks that are the same as this one.
    pub shared_by: Vec<NetworkName>,
    /// The link that carries its addresses, a key of [`super::Node::links`]; never a port of another link.
    pub link: IfName,
    /// The largest packet on this network in bytes, at most the link's MTU. If it is smaller than that,
    /// it belongs on the network's routes.
    pub mtu: Mtu,
    /// Where the MTU comes from.
    pub mtu_from: MtuFrom,
    /// The node's addresses, IPv4 first.
    pub addresses: Vec<NodeAddress>,
}

/// One address of a node on a core network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeAddress {
    /// The address with the subnet's prefix length.
    pub address: IpNet,
    /// Where the default route of this family leads, if it leads through this network.
    pub gateway: Option<IpAddr>,
    /// Why it is this address.
    pub from: AddressFrom,
}

/// Why a node has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressFrom {
    /// The host number in the subnet is the node ID.
    NodeId,
    /// The cluster file gives it for this node.
    Given,
}

/// Where an MTU comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MtuFrom {
    /// The cluster file gives it.
    Given,
    /// 1500, Ethernet's own.
    Default,
    /// A VLAN has its parent's, a network its link's.
    Under(IfName),
    /// A port has that of its bond or bridge.
    Over(IfName),
}
