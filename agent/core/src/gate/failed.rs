//! Releases that have failed on a node: they are not tried there again, unless somebody tells the node to.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::boot::RootHash;
use crate::version::Version;

/// What is said of a release none of whose boots came far enough to say anything.
pub const NO_WORD: &str = "its tries are used up; it never got so far as to say why";

/// The last second of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// What a boot on trial leaves behind: why it was not proven, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The release.
    pub version: Version,
    /// Its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootHash>,
    /// The reasons.
    pub why: String,
    /// Whether its time was over; else the boot ended before, by itself.
    pub over: bool,
}

impl Why {
    /// As text for [`super::WHY`].
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

    /// In a sentence.
    pub fn sentence(&self) -> String {
        let Self { version: _, root: _, why, over } = self;
        if *over {
            return format!("it did not prove itself in time: {why}");
        }
        format!("a boot of it ended before its time was over; the last that it said: {why}")
    }
}

/// A release that has failed on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The release.
    pub version: Version,
    /// Its root; `None`: nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootHash>,
    /// Why, in a sentence.
    pub why: String,
    /// When that was noticed, in seconds since 1970-01-01 UTC of this node's clock: for people.
    pub at: u64,
}

/// All of them, the last at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FailedList(Vec<Failed>);

impl FailedList {
    /// Out of the text of [`super::FAILED`].
    ///
    /// # Errors
    /// It is another text.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        if text.trim().is_empty() { Ok(Self::default()) } else { serde_yaml::from_str(text) }
    }

    /// As that text.
    ///
    /// # Errors
    /// None that could be met: all of it can be written.
    pub fn text(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }

    /// The entry of a release. Another root under the same version is another release; one of which only the version is
    /// known is taken for it.
    pub fn has(&self, version: &Version, root: Option<&RootHash>) -> Option<&Failed> {
        let same = |it: &&Failed| {
            let other = it.root.as_ref().zip(root).is_some_and(|(one, other)| one != other);
            it.version == *version && !other
        };
        self.0.iter().rev().find(same)
    }

    /// Each of them.
    #[must_use]
    pub fn all(&self) -> &[Failed] {
        &self.0
    }

    /// Adds a release, in the place of what was known of it.
    pub fn add(&mut self, failed: Failed) {
        self.forget(&failed.version);
        self.0.push(failed);
    }

    /// Takes a release out: it has proven itself.
    pub fn forget(&mut self, version: &Version) {
        self.0.retain(|it| it.version != *version);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A line for each, for people.
    pub fn lines(&self) -> Vec<String> {
        let line = |it: &Failed| {
            // A later year has no such form.
            let at = UNIX_EPOCH + Duration::from_secs(it.at.min(LAST_SECOND));
            let at = humantime::format_rfc3339_seconds(at);
            format!("{} has failed on this node ({at}): {}", it.version, it.why)
        };
        self.0.iter().map(line).collect()
    }
}
