//! What a node says of itself: kept in ZooKeeper, so that it can be read while the node is away.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Wish;
use super::parts::Parts;
use crate::boot::RootHash;
use crate::names::NodeName;
use crate::version::Version;

/// A node as another one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its short name, which is its host's name in Ceph and its member's in Patroni.
    pub name: NodeName,
    /// Whether it is one of the coordinators.
    #[serde(default)]
    pub coordinator: bool,
    /// What it said last; `None`: it has not said anything yet.
    #[serde(default)]
    pub word: Option<Word>,
    /// That it does not answer now.
    #[serde(default)]
    pub silent: Option<Silence>,
}

/// A node that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// How it shows.
    pub why: String,
    /// For how long, in seconds by the steady clock of the node that looks. Clocks of two nodes are never compared.
    pub seconds: u64,
}

/// What a node says of itself. Releases of different ages read it: what is unknown to one of them is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Its short name, for nodes whose cluster file does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NodeName>,
    /// The release that runs.
    pub running: Version,
    /// The root hash of that release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<RootHash>,
    /// Whether the running release is proven, and nothing else would be started by the boot loader before it.
    pub proven: bool,
    /// What the gate says of it while it is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<String>,
    /// The kernel's ID of this boot.
    pub boot: String,
    /// The release that lies ready to be activated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<Version>,
    /// What its updater does about the wave's release.
    #[serde(default)]
    pub work: Work,
    /// Whether its updater is told to activate, or may not have heard yet that it is told so no more; `None`: an older
    /// release does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activates: Option<bool>,
    /// The number of the wave for which its updater is told of a release; `None`: it is told of none, or by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_for: Option<u64>,
    /// What becomes of its machines in the wave.
    #[serde(default, skip_serializing_if = "Work::is_idle")]
    pub moving: Work,
    /// Releases that failed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failed>,
    /// How its turn ended, if that was in vain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vain: Option<Vain>,
    /// What went wrong when it did its part last; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What it leads.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leads: BTreeSet<Leads>,
    /// Its parts of the cluster's services.
    #[serde(default)]
    pub parts: Parts,
}

/// What a node's updater does about the release that was asked for, or the program that moves machines about those.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Nothing.
    #[default]
    Idle,
    /// It is at it.
    Busy(String),
    /// It will not or cannot.
    Refused(String),
}

/// A release that failed on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Which.
    pub version: Version,
    /// Why.
    pub why: String,
}

/// A turn that was in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vain {
    /// The number of the wish.
    pub wish: u64,
    /// Why.
    pub why: String,
}

/// Something of which one node at a time is the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leads {
    /// The ZooKeeper ensemble.
    Zookeeper,
    /// Ceph's monitors.
    Monitors,
    /// Ceph's managers.
    Managers,
    /// Postgres, by Patroni.
    Patroni,
    /// The floating addresses.
    Primary,
}

impl Member {
    /// Whether it is seen to run this release or a newer one, and proven.
    pub fn has(&self, version: &Version) -> bool {
        self.word.as_ref().is_some_and(|word| word.proven && word.running >= *version)
    }

    /// Whether it answers and runs a proven release, whichever.
    pub fn is_sound(&self) -> bool {
        self.silent.is_none() && self.word.as_ref().is_some_and(|word| word.proven)
    }

    /// Its silence, if that lasts for so many seconds.
    pub(super) fn silent_for(&self, seconds: u64) -> Option<&Silence> {
        self.silent.as_ref().filter(|silence| silence.seconds >= seconds)
    }

    /// Why the wish has failed on it.
    pub(super) fn failure(&self, wish: &Wish) -> Option<String> {
        let word = self.word.as_ref()?;
        let vain = word.vain.as_ref().filter(|vain| vain.wish == wish.number);
        let failed = word.failed.iter().find(|failed| failed.version == wish.version);
        // One that runs it by now has it behind itself.
        let failed = failed.filter(|_| !wish.again && word.running != wish.version);
        let before = |failed: &Failed| format!("{} failed here: {}", failed.version, failed.why);
        vain.map(|vain| vain.why.clone()).or_else(|| failed.map(before))
    }
}

impl Work {
    /// Whether there is nothing to say.
    fn is_idle(&self) -> bool {
        *self == Self::Idle
    }
}

impl Word {
    /// That it runs on trial, with what the gate says of it.
    pub(super) fn on_trial(&self) -> String {
        let why = self.trial.as_ref().map(|why| format!(": {why}"));
        format!("runs {} on trial{}", self.running, why.unwrap_or_default())
    }

    /// Whether this release failed here at any time.
    pub(super) fn failed_with(&self, version: &Version) -> Option<&Failed> {
        self.failed.iter().find(|failed| failed.version == *version)
    }
}

impl fmt::Display for Leads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zookeeper => "ZooKeeper",
            Self::Monitors => "Ceph's monitors",
            Self::Managers => "Ceph's managers",
            Self::Patroni => "Patroni",
            Self::Primary => "the floating addresses",
        })
    }
}
