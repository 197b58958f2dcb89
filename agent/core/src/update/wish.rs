//! What is wished for, and where it comes from.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{BadValue, HttpUrl, Sha256};
use crate::version::Version;

/// How long a node may take to prove a release where nobody says, in seconds.
pub const TRIAL: u64 = 15 * 60;

/// A wish: which release, and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The version.
    pub version: Version,
    /// Where it is.
    pub source: Source,
    /// The SHA-256 of the first root of the keys that sign releases.
    pub trust: Sha256,
    /// Whether it is to be started, too.
    #[serde(default)]
    pub activate: bool,
    /// Whether it is to be tried although it failed on this node.
    #[serde(default)]
    pub again: bool,
    /// Whether it may be older than what runs.
    #[serde(default)]
    pub back: bool,
    /// How long the node may take to prove it, in seconds.
    #[serde(default = "trial")]
    pub trial: u64,
    /// The number of the wave for which it is wished; `None`: somebody wishes it of this node alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<u64>,
}

impl Wish {
    /// Whether it is for the same release from the same place, whatever is to become of it.
    pub fn means_the_same_as(&self, other: &Self) -> bool {
        (&self.version, &self.source, &self.trust) == (&other.version, &other.source, &other.trust)
    }
}

fn trial() -> u64 {
    TRIAL
}

/// Where releases are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Source {
    /// On a web server.
    Url(HttpUrl),
    /// In a folder, such as a medium's.
    Folder(String),
}

impl TryFrom<String> for Source {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        if text.starts_with('/') {
            return Ok(Self::Folder(text));
        }
        HttpUrl::try_from(text).map(Self::Url)
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(f, "{url}"),
            Self::Folder(path) => f.write_str(path),
        }
    }
}
