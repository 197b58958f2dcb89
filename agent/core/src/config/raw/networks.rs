//! Core networks as a person writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{AddressV4, AddressV6, SubnetV4, SubnetV6};
use crate::config::NetworkName;
use crate::config::given::Given;
use crate::names::{IfName, Mtu};

/// The three core networks. Any of them may be the same as another.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Networks", extend("required" = ["upstream", "cluster", "storage"]))]
pub(in crate::config) struct RawNetworks {
    /// Towards the users and the world.
    pub(in crate::config) upstream: Given<RawNetwork>,
    /// Between the nodes: coordination, migration of machines.
    pub(in crate::config) cluster: Given<RawNetwork>,
    /// Ceph's traffic.
    pub(in crate::config) storage: Given<RawNetwork>,
}

impl RawNetworks {
    /// The network of this name.
    pub(in crate::config) fn get(&self, name: NetworkName) -> &Given<RawNetwork> {
        match name {
            NetworkName::Upstream => &self.upstream,
            NetworkName::Cluster => &self.cluster,
            NetworkName::Storage => &self.storage,
        }
    }
}

/// A core network: either its own link and subnets, or `same_as` alone.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Network")]
pub(in crate::config) struct RawNetwork {
    /// The network that this one is the same as; then nothing else is given here.
    pub(in crate::config) same_as: Given<NetworkName>,
    /// The link that carries it.
    pub(in crate::config) link: Given<IfName>,
    /// The largest packet in bytes, at most the link's MTU. Default: the link's MTU.
    pub(in crate::config) mtu: Given<Mtu>,
    /// IPv4 on this network.
    pub(in crate::config) ipv4: Given<RawFamily<SubnetV4, AddressV4>>,
    /// IPv6 on this network.
    pub(in crate::config) ipv6: Given<RawFamily<SubnetV6, AddressV6>>,
}

/// The addresses of one family. A node's host number in the subnet is its ID.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, bound = "S: Deserialize<'de>, A: Deserialize<'de>")]
#[schemars(rename = "Addresses_{S}", extend("required" = ["subnet"]))]
pub(in crate::config) struct RawFamily<S, A> {
    /// Network address and prefix length.
    pub(in crate::config) subnet: Given<S>,
    /// Upstream only: where the default route leads.
    pub(in crate::config) gateway: Given<A>,
    /// The address that the primary coordinator holds; no node's own.
    pub(in crate::config) floating: Given<A>,
}

impl<S, A> Default for RawFamily<S, A> {
    fn default() -> Self {
        Self { subnet: Given::Absent, gateway: Given::Absent, floating: Given::Absent }
    }
}
