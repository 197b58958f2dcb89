//! What the gate tells of itself: to the agent, and through it to people and to the other nodes.

use serde::{Deserialize, Serialize};

use super::{FailedList, Spent, Verdict};

/// All that it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The release that runs.
    pub version: String,
    /// Where this boot stands.
    #[serde(flatten)]
    pub stand: Stand,
    /// The releases that have failed on this node.
    #[serde(default, skip_serializing_if = "FailedList::is_empty")]
    pub failed: FailedList,
}

/// Where a boot stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stand", rename_all = "kebab-case")]
pub enum Stand {
    /// It was proven before.
    Old,
    /// It is on trial.
    Trial {
        /// Which of its tries this is.
        #[serde(rename = "try")]
        number: u32,
        /// How long it may take, in seconds.
        limit: u64,
        /// What has been used of that until the verdict came.
        spent: Spent,
        /// What there is to say.
        #[serde(flatten)]
        verdict: Verdict,
    },
    /// It was on trial and has proven itself.
    Proven,
}

impl Said {
    /// As text for [`super::STATE`].
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

    /// Lines for people; none if there is nothing to say. Those that belong to the one before begin with blanks.
    pub fn lines(&self) -> Vec<String> {
        let version = &self.version;
        let mut lines = match &self.stand {
            Stand::Old => Vec::new(),
            Stand::Proven => vec![format!("trial: {version} has proven itself in this boot")],
            Stand::Trial { number, limit, verdict, .. } => trial(version, *number, *limit, verdict),
        };
        lines.extend(self.failed.lines());
        lines
    }
}

fn trial(version: &str, number: u32, limit: u64, verdict: &Verdict) -> Vec<String> {
    let which = format!("trial: {version}, try {number}");
    match verdict {
        Verdict::Proven => vec![format!("{which}: proven, not yet marked so")],
        Verdict::Waiting { reasons } => {
            let minutes = limit.div_ceil(60);
            let first = format!("{which}: not proven yet; after {minutes} min it reboots");
            let reasons = reasons.iter().map(|reason| format!("  {reason}"));
            std::iter::once(first).chain(reasons).collect()
        }
        Verdict::Inconclusive { reason } => vec![
            format!("{which}: nothing can be said of it, and its time does not count"),
            format!("  {reason}"),
        ],
    }
}
