//! The cluster file: YAML text → raw → merged → valid. Only [`Config`], the valid one, leaves this module.

mod links; // Link, Nic, Bond, …: valid
mod networks; // Network, NodeNetwork, Subnet: valid
mod nodes; // Node, DiskRule, OsdRule, …: valid
mod settings; // Ceph, Postgres, ZooKeeper, Frr, Update, …: valid

pub use links::{BalanceHash, Bond, BondMode, LacpRate, Link, LinkKind, NicChoice};
pub use networks::Subnet;
pub use networks::{
    AddressFrom, MtuFrom, Network, NetworkName, Networks, NodeAddress, NodeNetwork,
};
pub use nodes::{Bmc, Disk, DiskKind, Match, Node, Osd, OsdDb, Reserve, Role};
pub use settings::{
    Bfd, Ceph, FailureDomain, Frr, FrrPeer, LogProtocol, LogRemote, Logging, Metrics, Patroni,
    Pool, Postgres, Settings, Update, Weekday, Window, ZooKeeper,
};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use crate::names::{ClusterName, DomainName, Host, NodeId, SshKey};

/// A whole cluster, as its cluster file says it, checked: everything in it fits together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The cluster's name.
    pub name: ClusterName,
    /// The DNS domain of the cluster; a node is reached as `NAME.DOMAIN`.
    pub domain: DomainName,
    /// The coordinators: an odd number of nodes.
    pub coordinators: BTreeSet<NodeId>,
    /// NTP servers, in the order of preference. Empty: the coordinators serve each other.
    pub time_servers: Vec<Host>,
    /// DNS resolvers, in the order of preference.
    pub dns_servers: Vec<IpAddr>,
    /// The core networks, the same on every node.
    pub networks: Networks,
    /// Every node with the cluster's defaults merged in.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Settings of services, the same on every node.
    pub settings: Settings,
    /// Who may log in by SSH as root. Empty: nobody.
    pub ssh_keys: Vec<SshKey>,
}

impl Config {
    /// The node with this ID, defaults merged in; `None` if the cluster has no such node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// The coordinators' nodes, by ID.
    pub fn coordinator_nodes(&self) -> impl Iterator<Item = &Node> {
        self.coordinators.iter().filter_map(|id| self.nodes.get(id))
    }
}
