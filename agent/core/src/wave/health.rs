//! How the cluster's quorums, data and machines stand, as far as a node's restart is concerned.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::evacuate::Move;
use crate::names::NodeId;

/// All of it. A part is `None` if nobody answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Every ZooKeeper server that answers; one that is missing is away.
    pub zookeeper: BTreeMap<NodeId, Server>,
    /// Ceph.
    pub ceph: Option<Ceph>,
    /// Patroni.
    pub patroni: Option<Patroni>,
    /// The machines on each node whose libvirt answers.
    pub machines: BTreeMap<NodeId, Machines>,
}

/// A ZooKeeper server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// It leads.
    Leader,
    /// It follows, and has what the leader has.
    Follower,
    /// It follows and does not have everything yet.
    Behind,
}

/// Ceph, as its monitors answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ceph {
    /// The monitors in quorum.
    pub quorum: BTreeSet<NodeId>,
    /// How many OSDs each host has; a host without any is not there.
    pub osds: BTreeMap<NodeId, u32>,
    /// Placement groups that are not active and clean, by their state.
    pub unclean: BTreeMap<String, u64>,
    /// What `osd ok-to-stop` answers for all OSDs of a host: empty, or why not. A host that is missing was not asked for.
    pub stop: BTreeMap<NodeId, String>,
    /// Hosts for which `noout` is set.
    pub noout: BTreeSet<NodeId>,
}

/// Patroni, as any of its members answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patroni {
    /// Whether somebody has paused it: then nobody takes a lost leader's place.
    #[serde(default)]
    pub paused: bool,
    /// Whether a commit waits for a replica.
    #[serde(default)]
    pub synchronous: bool,
    /// A replica that is further behind, in bytes, is no successor.
    pub max_lag: u64,
    /// Its members.
    pub members: BTreeMap<NodeId, Database>,
}

/// A member of Patroni.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Database {
    /// It leads.
    Leader,
    /// A replica for which commits wait.
    Synchronous,
    /// A replica that streams, so many bytes behind.
    Streams(u64),
    /// It is there, and does not stream.
    Away,
}

/// The machines on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machines {
    /// How many run.
    pub running: u32,
    /// Those that cannot move while they run, or have nowhere to go, with the reason.
    pub stuck: BTreeMap<String, String>,
    /// Where the others go.
    pub moves: Vec<Move>,
}
