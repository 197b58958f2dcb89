//! The systems on an ESP, and which of two the boot loader starts.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::boot::{Name, RootHash, Tries};
use crate::names::Sha256;
use crate::version::Version;

/// Where a system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Where the boot loader looks.
    Boot,
    /// Where it does not.
    Staged,
}

/// A system on an ESP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Its file.
    pub file: String,
    /// Where that is.
    pub place: Place,
    /// The root in its command line, if it has one.
    #[serde(default)]
    pub root: Option<RootHash>,
    /// What it is.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
}

impl System {
    /// What its file's name says.
    pub fn tries(&self) -> Option<Tries> {
        Name::of(&self.file)?.tries
    }

    /// Whether the boot loader still tries it.
    pub fn on_trial(&self) -> bool {
        self.tries().is_some_and(|tries| tries.left > 0)
    }

    /// Whether the boot loader takes it last.
    pub fn is_bad(&self) -> bool {
        self.tries().is_some_and(|tries| tries.left == 0)
    }
}

/// Which of two releases, each a version and its counter, the boot loader takes first (`Less`: the one). It takes those
/// without tries last, and of the others the newest (`boot_entry_compare` of systemd-boot).
pub fn first(one: (&Version, Option<Tries>), other: (&Version, Option<Tries>)) -> Ordering {
    let bad = |tries: Option<Tries>| tries.is_some_and(|tries| tries.left == 0);
    bad(one.1).cmp(&bad(other.1)).then_with(|| other.0.cmp(one.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_comes_first_and_what_failed_last() {
        let (old, new): (Version, Version) = ("1.9".parse().unwrap(), "1.10".parse().unwrap());
        let tries = |left| Some(Tries { left, done: 0 });
        assert!(first((&new, tries(3)), (&old, None)).is_lt());
        assert!(first((&new, tries(0)), (&old, None)).is_gt());
        assert!(first((&new, tries(0)), (&old, tries(0))).is_lt());
    }
}
