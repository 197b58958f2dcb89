//! The gate behind an upgrade: whether a boot on trial has brought back what the node was part of before.
//!
//! Before the reboot the node writes down what it is part of ([`Before`]). After it a boot is proven once it is part of all
//! of that again ([`judge`]), and only then is it blessed. What it was not part of before is no reason, so that no old
//! fault is blamed on a new release. When the whole site is gone, nothing can be said of the release: such a time is not
//! counted ([`Spent`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::boot::RootHash;
use crate::version::Version;

mod failed; // releases that have failed on a node
mod judge; // from what was and what is to a verdict
mod name; // how the boot loader counts tries, in the names of systems
mod parts; // what a node is part of
mod said; // what the gate tells of itself
mod spent; // how much of the limit is used
#[cfg(test)]
mod tests;

pub use failed::{Failed, FailedList, NO_WORD, Why};
pub use judge::judge;
pub use name::{Name, SUFFIX, Tries};
pub use parts::{Link, Now, Parts};
pub use said::{Said, Stand};
pub use spent::Spent;

/// What must outlive a boot: on /var, for root alone.
pub const FOLDER: &str = "/var/lib/trilith-gate";
/// In it: the [`Before`], in YAML. It is there from the activation of a release until that has proven itself or failed.
pub const BEFORE: &str = "before.yaml";
/// In it: why the boot on trial is not proven yet ([`Why`]), in YAML: what a boot leaves that does not get to its end.
pub const WHY: &str = "why.yaml";
/// In it: the releases that have failed here ([`FailedList`]), in YAML.
pub const FAILED: &str = "failed.yaml";

/// What holds for this boot.
pub const RUN: &str = "/run/trilith-gate";
/// In it: what the gate says ([`Said`]), in YAML.
pub const STATE: &str = "state.yaml";
/// In it: a file that is there once nothing of the boot is waited for any more.
pub const BOOTED: &str = "booted";

/// How long a boot may take to prove itself, in seconds, unless it is told otherwise.
pub const LIMIT: u64 = 15 * 60;

/// What a node was before it was rebooted into a release on trial. Releases of different ages read it: what is unknown to
/// one of them is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The release that is on trial.
    pub version: Version,
    /// Its root, if that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootHash>,
    /// The release that ran when this was written.
    pub from: String,
    /// How long a boot may take to prove itself, in seconds.
    pub limit: u64,
    /// What it was part of.
    #[serde(default)]
    pub parts: Parts,
}

impl Before {
    /// Of a boot on trial of which nobody has written down what was before: the agent must answer and bring the network up.
    pub fn unknown(version: Version) -> Self {
        let (root, from, parts) = (None, String::new(), Parts::default());
        Self { version, root, from, limit: LIMIT, parts }
    }

    /// As text for [`BEFORE`].
    ///
    /// # Errors
    /// None that could be met: all of it can be written.
    pub fn text(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }

    /// Out of that text.
    ///
    /// # Errors
    /// It is another text.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }
}

/// What there is to say of a boot on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It is part of all that the node was part of before.
    Proven,
    /// Not yet.
    Waiting {
        /// What is missing, in sentences.
        reasons: Vec<String>,
    },
    /// Everybody else is gone as well: that is not the release's fault, nor does it prove it.
    Inconclusive {
        /// What makes that look so.
        reason: String,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven => f.write_str("proven"),
            Self::Waiting { reasons } => f.write_str(&reasons.join("; ")),
            Self::Inconclusive { reason } => f.write_str(reason),
        }
    }
}
