//! What the agents tell each other over the cluster network: who they are, and of each subject where it stands
//! and what it holds.
//!
//! A view of the node's status without what changes by itself (counters, times), so that a change of it is news.
//! No time of one machine is ever compared with another's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{Config, NetworkName};
use crate::names::{DomainName, NodeId, NodeName};
use crate::operators;
use crate::status::{Details, NodeStatus, State};

#[cfg(test)]
mod tests;

/// The TCP port of the agents on the cluster network.
pub const PORT: u16 = 29810;

/// The version of [`Facts`] that this program speaks. Fields may be added under one version: a reader leaves
/// unknown ones alone.
pub const VERSION: u32 = 1;

/// What one agent tells the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The version of this form.
    pub version: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The node's ID.
    pub node: NodeId,
    /// Which boot of the machine this is (`/proc/sys/kernel/random/boot_id`): another one means that it was
    /// restarted.
    pub boot: String,
    /// The agent's version.
    pub agent: String,
    /// Every subject by name.
    pub subjects: BTreeMap<String, Health>,
}

/// Where one subject of a node stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The state's name ([`State::name`]).
    pub state: String,
    /// What stands in the way, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it holds, and what the node is in it.
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub details: Details,
}

impl Facts {
    /// What the status of a node means for the others; `None` while the node does not know who it is.
    pub fn of(status: &NodeStatus, boot: &str) -> Option<Self> {
        let identity = status.node.as_ref()?;
        let health = |(name, subject): (&String, &crate::status::SubjectStatus)| {
            let reason = match &subject.state {
                State::Degraded { .. } | State::Waiting { .. } | State::Retry { .. } => {
                    Some(subject.state.to_string())
                }
                State::Running | State::Converged => None,
            };
            let mut details = subject.details.clone();
            // Positions move with every transaction: they are read where they are.
            details.lag = None;
            details.more.clear();
            // What this node heard of the others, they say themselves.
            details.members.clear();
            details.leader = None;
            (name.clone(), Health { state: subject.state.name().into(), reason, details })
        };
        Some(Self {
            version: VERSION,
            cluster: identity.cluster.clone(),
            node: NodeId::try_from(identity.id).ok()?,
            boot: boot.into(),
            agent: status.version.clone(),
            subjects: status.subjects.iter().map(health).collect(),
        })
    }

    /// What one subject of the node says; an unknown one says nothing.
    pub fn details(&self, subject: &str) -> Details {
        self.subjects.get(subject).map(|health| health.details.clone()).unwrap_or_default()
    }
}

/// A node that this one talks to, or that may talk to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its ID.
    pub id: NodeId,
    /// Its short name.
    pub name: NodeName,
    /// The name in its certificate, `NAME.DOMAIN`.
    pub host: String,
    /// Its addresses on the cluster network, in the order in which they are tried.
    pub addresses: Vec<std::net::IpAddr>,
}

/// Who this node talks with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// This node.
    pub me: Peer,
    /// Every other node of the cluster: each may ask this one.
    pub others: BTreeMap<NodeId, Peer>,
    /// Those that this one follows: the other coordinators. Following everybody would cost each node a
    /// connection for every node of the cluster.
    pub followed: Vec<NodeId>,
    /// Where operators reach this one, on the upstream network.
    pub operators: Vec<std::net::IpAddr>,
}

impl Circle {
    /// What the cluster file says; `None` if the cluster has no such node.
    pub fn new(config: &Config, id: NodeId) -> Option<Self> {
        let me = peer(config, id)?;
        let others = config.nodes.keys().filter(|other| **other != id);
        let others = others.filter_map(|other| Some((*other, peer(config, *other)?))).collect();
        let followed = config.coordinators.iter().copied().filter(|other| *other != id).collect();
        let operators = operators::addresses(config.node(id)?);
        Some(Self { me, others, followed, operators })
    }
}

fn peer(config: &Config, id: NodeId) -> Option<Peer> {
    let node = config.node(id)?;
    let network = node.network(NetworkName::Cluster)?;
    let addresses = network.addresses.iter().map(|address| address.address.addr()).collect();
    Some(Peer { id, name: node.name.clone(), host: host(&node.name, &config.domain), addresses })
}

/// The full name of a node, as its certificate has it.
fn host(name: &NodeName, domain: &DomainName) -> String {
    format!("{name}.{domain}")
}
