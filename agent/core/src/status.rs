//! What a node says about itself. Status text, metrics, journal lines and `--json` are views of these values.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gate::Said;
use crate::machines::Hosting;
use crate::quorum::Data;
use crate::{turns, update};

pub mod text; // for a person

/// Why something is not as desired: the object and the reason, for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// What it is about: a link, an address, a unit.
    pub object: String,
    /// What is wrong with it, and what would help.
    pub reason: String,
}

/// A problem with an object.
pub(crate) fn problem(object: &str, reason: String) -> Problem {
    Problem { object: object.into(), reason }
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
    /// Whether it has converged at any time since the agent started. Most successors wait until it has.
    pub has_converged: bool,
    /// Whether at any time since the agent started there was no step left, converged or degraded. It is what
    /// the services wait for: one missing NIC must not keep the operator from logging in.
    pub has_settled: bool,
    /// How many steps were applied since the agent started.
    pub steps_applied: u64,
    /// How many passes (look, plan, apply) were made since the agent started.
    pub passes: u64,
    /// How long the last pass took, in microseconds.
    pub last_pass_us: u64,
    /// How many questions and orders were put to the service since the agent started.
    #[serde(default)]
    pub requests: u64,
    /// What the last look showed beyond the state.
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub details: Details,
}

/// What there is to say of a service beyond whether it is as desired: the same words for every service, so that
/// people, metrics and the other nodes read one shape. A part that means nothing for a subject is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// What its data directory on this node holds: what the other coordinators must know to form or join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// What this node is in it now: `leader`, `follower`, `peon`, `replica`, … None: it is no part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The name of the member that leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Every member by name, with a word for what it is: its role, or why it has none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, String>,
    /// How far this node is behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
    /// Where this node stands with its turn to restart; `None`: it has none, or has not looked yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<turns::Stand>,
    /// The machines that run in it, and what is left for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosting: Option<Hosting>,
    /// What only this kind of service has, such as a version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<String, String>,
}

/// A distance to the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// How many units.
    pub behind: u64,
    /// What is counted: `transactions`, `bytes`.
    pub unit: String,
}

impl Details {
    /// Nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// One line for each part, for people.
    pub fn lines(&self) -> Vec<String> {
        let Self { data, role, leader, members, lag, turn, hosting, more } = self;
        let members: Vec<_> = members.iter().map(|(name, word)| format!("{name} {word}")).collect();
        let members = (!members.is_empty()).then(|| members.join(", "));
        let parts = [
            ("data", data.as_ref().map(Data::to_string)),
            ("role", role.clone()),
            ("leader", leader.clone()),
            ("members", members),
            ("lag", lag.as_ref().map(|lag| format!("{} {}", lag.behind, lag.unit))),
            ("turn", turn.and_then(turns::Stand::word)),
            ("room", hosting.as_ref().map(Hosting::to_string)),
        ];
        let parts =
            parts.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
        parts.chain(more.iter().map(|(name, value)| format!("{name}: {value}"))).collect()
    }
}

/// Everything a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The release that the node runs; outside of an image, the agent's own version.
    pub version: String,
    /// Who the node is, once a bundle has told it.
    pub node: Option<NodeIdentity>,
    /// Where the node bundle came from, and what is wrong with a newer one.
    pub bundle: BundleStatus,
    /// Every subject by its name.
    pub subjects: BTreeMap<String, SubjectStatus>,
    /// The other agents that this one follows, by node name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<String, PeerStatus>,
    /// Its addresses on upstream and cluster, as they should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// What the machine is, ready to paste into a cluster file, while no bundle says who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sighting: Option<String>,
    /// Where the installation of the node on its disk stands, in lines for people; `None`: it is not being installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<String>,
    /// What the gate says: a release on trial, releases that have failed here; `None`: it has nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Said>,
    /// Where the node's updates stand; `None`: nobody has wished for one in this boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<update::State>,
}

/// Whether another node's agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Why it does not; `None`: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
    /// Since when, in seconds since 1970-01-01 UTC of this node's clock.
    pub since: u64,
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

/// Where the node bundle came from. Without a `source` the node does nothing and waits for a bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleStatus {
    /// The file that the running configuration was read from.
    pub source: Option<String>,
    /// What is wrong with the bundle that was found last. The last good one goes on meanwhile.
    pub problems: Vec<Problem>,
    /// What will go wrong with the bundle in force if nobody does anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
    /// The last second in which the node's certificate holds, since 1970-01-01 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_ends: Option<u64>,
}

impl NodeStatus {
    /// What of it is news to a person: without counts of work done, and without when it is tried again.
    #[must_use]
    pub fn without_counts(&self) -> Self {
        let mut status = self.clone();
        for subject in status.subjects.values_mut() {
            (subject.passes, subject.last_pass_us, subject.requests) = (0, 0, 0);
            subject.steps_applied = 0;
            if let State::Retry { at, .. } = &mut subject.state {
                *at = 0;
            }
        }
        status
    }

    /// The node has a bundle without problems, and every subject has converged.
    pub fn is_converged(&self) -> bool {
        self.bundle.source.is_some()
            && self.bundle.problems.is_empty()
            && self.subjects.values().all(|subject| subject.state == State::Converged)
    }
}

impl SubjectStatus {
    /// A subject that has not looked at the host yet.
    pub fn waiting(on: &str, since: u64) -> Self {
        Self {
            state: State::Waiting { on: on.into() },
            since,
            has_converged: false,
            has_settled: false,
            steps_applied: 0,
            passes: 0,
            last_pass_us: 0,
            requests: 0,
            details: Details::default(),
        }
    }
}

impl State {
    /// The state's name, as it stands in JSON and in the metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Running => "running",
            Self::Converged => "converged",
            Self::Degraded { .. } => "degraded",
            Self::Retry { .. } => "retry",
        }
    }

    /// Every name that [`State::name`] can give.
    pub const NAMES: [&'static str; 5] = ["waiting", "running", "converged", "degraded", "retry"];

    /// Whether no step is left: all is done, or all that can be done now.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Converged | Self::Degraded { .. })
    }

    /// Whether it is the same news: the time of the next pass is none.
    pub fn same_news(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Retry { error: a, at: _ }, Self::Retry { error: b, at: _ }) => a == b,
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Running | Self::Converged => Ok(()),
            Self::Waiting { on } => write!(f, " for {on}"),
            Self::Retry { error, at: _ } => write!(f, ": {error}"),
            Self::Degraded { problems } => {
                let all: Vec<_> = problems.iter().map(Problem::to_string).collect();
                write!(f, ": {}", all.join("; "))
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}
