//! What the program of the wave must know of the cluster: the agent writes it from the cluster file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::parts::Commits;
use crate::config::Window;
use crate::names::{NodeId, NodeName, Sha256};
use crate::update::Source;

/// Its folder of secrets; its settings and the node's certificate are in it.
pub const SECRETS: &str = "/run/trilith/wave";
/// The settings in it, in JSON.
pub const SETTINGS: &str = "settings.json";
/// Where it is asked and told, by HTTP: `GET` and `POST` of [`PATH`].
pub const SOCKET: &str = "/run/trilith-wave/wave.sock";
/// What is asked for.
pub const PATH: &str = "/v1/upgrade";
/// The agents' account in ZooKeeper.
pub const ACCOUNT: &str = "trilith";
/// What the wave keeps in ZooKeeper is below it.
pub const TREE: &str = "/trilith/upgrade";

/// All that it must know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// Every node of the cluster.
    pub nodes: BTreeMap<NodeId, Seat>,
    /// ZooKeeper's servers, `ADDRESS:PORT`.
    pub keepers: Vec<String>,
    /// The password of the agents' account there.
    pub password: String,
    /// Patroni's REST API on this node; `None`: it has none.
    pub patroni: Option<SocketAddr>,
    /// How Patroni commits.
    pub commits: Commits,
    /// When nodes may restart; `None`: at any time.
    pub window: Option<Window>,
    /// Where releases come from; `None`: the wave can stage nothing.
    pub fetch: Option<Fetch>,
}

/// A node of the cluster file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// Its short name.
    pub name: NodeName,
    /// Whether it is a coordinator.
    pub coordinator: bool,
}

/// What the updater is told besides the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// Where releases are.
    pub source: Source,
    /// The SHA-256 of the first root of the keys that sign them.
    pub trust: Sha256,
    /// How long a node may take to prove one, in seconds.
    pub trial: u64,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            nodes,
            keepers,
            password: _, /* a secret */
            patroni,
            commits,
            window,
            fetch,
        } = self;
        let mut all = f.debug_struct("Settings");
        all.field("node", node).field("nodes", nodes).field("keepers", keepers);
        all.field("patroni", patroni).field("commits", commits);
        all.field("window", window).field("fetch", fetch).finish_non_exhaustive()
    }
}
