//! What a node says about itself. Status text, metrics, journal lines and `--json` are views of these values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why something is not as desired: the object and the reason, for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// What it is about: a link, an address, a unit.
    pub object: String,
    /// What is wrong with it, and what would help.
    pub reason: String,
}

/// Where a subject stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// It waits for something else to come first, such as another subject or the node bundle.
    Waiting {
        /// What it waits for.
        on: String,
    },
    /// Steps are being applied.
    Running,
    /// A fresh look gave an empty plan.
    Converged,
    /// All that can be done is done, and it is not enough.
    Degraded {
        /// What stands in the way.
        problems: Vec<Problem>,
    },
    /// Looking or a step failed; another pass follows.
    Retry {
        /// The error with its causes.
        error: String,
        /// When the next pass comes if no event brings it sooner, in seconds since 1970-01-01 UTC.
        at: u64,
    },
}

/// One subject's state, and for how long it has held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectStatus {
    /// Where it stands.
    #[serde(flatten)]
    pub state: State,
    /// Since when it has been in this state, in seconds since 1970-01-01 UTC.
    pub since: u64,
    /// Whether it has converged at any time since the agent started. Successors wait until it has.
    pub has_converged: bool,
    /// How many steps were applied since the agent started.
    pub steps_applied: u64,
}

/// Everything a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The agent's version.
    pub version: String,
    /// Who the node is, once a bundle has told it.
    pub node: Option<NodeIdentity>,
    /// Every subject by its name, in the order of the design: network, services, …
    pub subjects: BTreeMap<String, SubjectStatus>,
}

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// The cluster's name.
    pub cluster: String,
    /// The node's ID.
    pub id: u16,
    /// The node's name.
    pub name: String,
}
