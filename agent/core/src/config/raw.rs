//! The cluster file as a person writes it: everything may be absent, unknown keys are errors. The doc
//! comments here are the descriptions in the JSON Schema, so they speak to the person who writes YAML.

mod addresses; // subnets and addresses of one family
mod links;
mod networks;
mod nodes;
mod settings;

pub(super) use addresses::{Address, AddressV4, AddressV6, SubnetV4, SubnetV6};
pub(super) use links::{RawBond, RawBondMode, RawBridge, RawLink, RawNic, RawVlan};
pub(super) use networks::{RawFamily, RawNetwork, RawNetworks};
pub(super) use nodes::{
    RawBmc, RawDisk, RawMatch, RawNode, RawNodeDefaults, RawNodeNetwork, RawOsd, RawOsdDb,
    RawReserve,
};
pub(super) use settings::{
    RawBfd, RawCeph, RawFrr, RawFrrPeer, RawLogRemote, RawLogging, RawMetrics, RawPatroni, RawPool,
    RawPostgres, RawUpdate, RawWindow, RawZooKeeper,
};

use schemars::JsonSchema;
use serde::Deserialize;

use super::given::{Given, Table};
use crate::names::{ClusterName, DomainName, Host, IfName, NodeId, SshKey};

/// A list, each of whose items may be wrong on its own.
pub(super) type List<T> = Given<Vec<Given<T>>>;

/// A Trilith cluster: one file describes the whole of it. It holds no secrets, only their names.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Trilith cluster file", rename = "ClusterFile")]
#[schemars(extend("required" = ["version", "cluster", "coordinators", "networks", "nodes"]))]
pub(super) struct RawFile {
    /// The version of this file's format: 1.
    pub(super) version: Given<u32>,
    /// What the cluster is called.
    pub(super) cluster: Given<RawCluster>,
    /// The IDs of the nodes that carry the quorums: 1 (a lab), 3, 5 or 7 of them.
    pub(super) coordinators: List<NodeId>,
    /// Where the time comes from.
    pub(super) time: Given<RawTime>,
    /// Where names are looked up.
    pub(super) dns: Given<RawDns>,
    /// Links of every node by name. A node's own `links` override them key by key.
    pub(super) links: Given<Table<IfName, RawLink>>,
    /// The three core networks.
    pub(super) networks: Given<RawNetworks>,
    /// What every node has unless it says otherwise.
    pub(super) node_defaults: Given<RawNodeDefaults>,
    /// Every node of the cluster.
    pub(super) nodes: List<RawNode>,
    /// Ceph.
    pub(super) ceph: Given<RawCeph>,
    /// Postgres and Patroni.
    pub(super) postgres: Given<RawPostgres>,
    /// ZooKeeper.
    pub(super) zookeeper: Given<RawZooKeeper>,
    /// BGP towards the routers upstream. Absent: none.
    pub(super) frr: Given<RawFrr>,
    /// Where new releases of the OS come from. Absent: only by hand.
    pub(super) update: Given<RawUpdate>,
    /// Where logs go.
    pub(super) logging: Given<RawLogging>,
    /// Where metrics are served.
    pub(super) metrics: Given<RawMetrics>,
    /// Who may log in.
    pub(super) ssh: Given<RawSsh>,
}

/// What the cluster is called.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Cluster", extend("required" = ["name", "domain"]))]
pub(super) struct RawCluster {
    /// The cluster's name: one DNS label.
    pub(super) name: Given<ClusterName>,
    /// The cluster's DNS domain; a node is reached as NAME.DOMAIN.
    pub(super) domain: Given<DomainName>,
}

/// Where the time comes from.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Time")]
pub(super) struct RawTime {
    /// NTP servers, the preferred first. Absent: the coordinators agree among themselves.
    pub(super) servers: List<Host>,
}

/// Where names are looked up.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Dns")]
pub(super) struct RawDns {
    /// DNS resolvers by address, the preferred first.
    pub(super) servers: List<Address>,
}

/// Who may log in.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Ssh")]
pub(super) struct RawSsh {
    /// Public keys of those who may log in as root, as in `authorized_keys`. Absent: nobody may.
    pub(super) keys: List<SshKey>,
}
