//! What the updater says of itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::peers::Fetching;
use crate::boot::RootHash;
use crate::status::Problem;
use crate::version::Version;

/// Where the updates of a node stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The release that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Version>,
    /// The release that is on trial: it runs, or the next boot tries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// The release that is staged, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged: Option<Version>,
    /// The release that is wished for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wished: Option<Version>,
    /// What is being done, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    /// How far that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The root that is being fetched into the slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetching: Option<RootHash>,
    /// How many bytes the source has given for this wish.
    pub fetched: u64,
    /// How many bytes other nodes have given for it.
    pub from_peers: u64,
    /// Why the wish is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Problem>,
    /// What failed, and when it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What a person should know besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A release on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which one.
    pub version: Version,
    /// How many tries are left.
    pub left: u32,
    /// How many were made.
    pub done: u32,
}

/// How far something is, in bytes of what it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is done.
    pub done: u64,
    /// All of it.
    pub of: u64,
}

impl Progress {
    /// In per cent.
    pub fn percent(self) -> u64 {
        self.done.saturating_mul(100) / self.of.max(1)
    }
}

impl State {
    /// Reads what the updater wrote.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    /// The same without how far it is.
    pub fn news(&self) -> Vec<String> {
        Self { progress: None, ..self.clone() }.lines()
    }

    /// What the other nodes are told of a fetch; `None`: there is none that comes to its end.
    pub fn told(&self) -> Option<Fetching> {
        let (doing, percent) = (self.doing.as_ref()?, self.progress.map_or(0, Progress::percent));
        Some(Fetching { root: self.fetching.clone()?, how_far: format!("{doing}: {percent} %") })
    }

    /// In lines for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.trial.iter().map(Trial::to_string).collect();
        if let Some(doing) = &self.doing {
            let percent = self.progress.map(|it| format!(": {} %", it.percent()));
            lines.push(format!("{doing}{}", percent.unwrap_or_default()));
        } else if let Some(staged) = &self.staged {
            lines.push(format!("{staged} is staged"));
        }
        lines.extend(self.refused.iter().map(|problem| format!("refused: {problem}")));
        lines.extend(self.failed.clone());
        lines.extend(self.notes.iter().cloned());
        lines
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, left, done } = self;
        write!(f, "{version} is on trial: {done} tries made, {left} left")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_what_matters() {
        let version: Version = "1.0-2".parse().unwrap();
        let mut state = State {
            staged: Some(version.clone()),
            trial: Some(Trial { version, left: 2, done: 1 }),
            ..State::default()
        };
        assert_eq!(state.lines(), ["1.0-2 is on trial: 1 tries made, 2 left", "1.0-2 is staged"]);
        state.doing = Some("fetching the root".into());
        state.progress = Some(Progress { done: 3, of: 8 });
        assert_eq!(state.lines()[1], "fetching the root: 37 %");
    }
}
