//! Versions, and which of two is newer.
//!
//! The boot loader starts the newest system on the ESP by its own comparison, so there is one here, and it is that one
//! (UAPI group, UAPI.10 Version Format Specification; `strverscmp_improved` in systemd).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::BadValue;

/// What the names of all files and partitions of a release begin with.
const PREFIX: &str = "trilith_";
/// A GPT partition label has 36 characters (UEFI 2.10, 5.3.3).
const LONGEST: usize = 36 - PREFIX.len();

/// The version of a release: it stands in file names and in partition labels. `YYYY.MM.DD-N` by custom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A version that is a number.
    pub fn number(number: u64) -> Self {
        Self(number.to_string())
    }

    /// What the files and partitions of this release are called.
    pub fn label(&self) -> String {
        format!("{PREFIX}{self}")
    }

    /// The version in such a name. `None`: it is no release's.
    pub fn of_label(label: &str) -> Option<Self> {
        label.strip_prefix(PREFIX)?.parse().ok()
    }
}

impl TryFrom<String> for Version {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-~^".contains(c);
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(allowed) {
            let rule = "a version has letters, digits, '.', '-', '~' and '^', such as 2026.11.21-1";
            return Err(BadValue(rule.into()));
        }
        if text.len() > LONGEST {
            let rule =
                format!("a version has at most {LONGEST} characters: it is in partition labels");
            return Err(BadValue(rule));
        }
        Ok(Self(text))
    }
}

impl FromStr for Version {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        Self::try_from(text.to_owned())
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for Version {
    /// Two that differ are never equal here, although a boot loader takes `1.01` for `1.1`.
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.as_str(), other.as_str()).then_with(|| self.as_str().cmp(other.as_str()))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Which of two texts with versions in them is newer. Characters that no version has separate its parts.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (skip(left), skip(right));
    loop {
        // A part behind `~` comes before all else, even before the end: `1~rc1` is older than `1`.
        if let Some(order) = mark('~', &mut left, &mut right) {
            return order;
        }
        if left.is_empty() || right.is_empty() {
            return (!left.is_empty()).cmp(&!right.is_empty());
        }
        // These in this order: `1-1` is older than `1^1`, and that than `1.1`.
        for separator in ['-', '^', '.'] {
            if let Some(order) = mark(separator, &mut left, &mut right) {
                return order;
            }
        }
        let order = if left.starts_with(digit) || right.starts_with(digit) {
            numbers(take(&mut left, digit), take(&mut right, digit))
        } else {
            take(&mut left, letter).cmp(take(&mut right, letter))
        };
        if order.is_ne() {
            return order;
        }
        (left, right) = (skip(left), skip(right));
    }
}

/// The one that has the mark is the older one. If both have it, it is taken off; `None` also if neither has.
fn mark(mark: char, left: &mut &str, right: &mut &str) -> Option<Ordering> {
    let (bare_left, bare_right) = (left.strip_prefix(mark), right.strip_prefix(mark));
    if let (Some(bare_left), Some(bare_right)) = (bare_left, bare_right) {
        (*left, *right) = (skip(bare_left), skip(bare_right));
        return None;
    }
    Some(bare_left.is_none().cmp(&bare_right.is_none())).filter(|order| order.is_ne())
}

/// By value, of any length. No number at all is older than any.
fn numbers(left: &str, right: &str) -> Ordering {
    let value = |digits: &str| digits.trim_start_matches('0').to_owned();
    let (short, long) = (value(left), value(right));
    (!left.is_empty())
        .cmp(&!right.is_empty())
        .then_with(|| short.len().cmp(&long.len()))
        .then_with(|| short.cmp(&long))
}

fn skip(text: &str) -> &str {
    text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric() && !".-~^".contains(c))
}

fn take<'a>(text: &mut &'a str, of: fn(char) -> bool) -> &'a str {
    let end = text.find(|c| !of(c)).unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    *text = rest;
    taken
}

fn digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn letter(c: char) -> bool {
    c.is_ascii_alphabetic()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in ["2026.11.21-1", "1", "2.0~rc1", &"1".repeat(28)] {
            assert_eq!(good.parse::<Version>().unwrap().to_string(), good);
        }
        for bad in ["", "-1", "1_2", "1/2", "ä", "1 2", &"1".repeat(29)] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }

    #[test]
    fn labels() {
        let version: Version = "1.0-1".parse().unwrap();
        assert_eq!(version.label(), "trilith_1.0-1");
        assert_eq!(Version::of_label("trilith_1.0-1"), Some(version));
        assert_eq!(Version::of_label("_empty"), None);
        assert_eq!(Version::of_label("trilith_"), None);
    }

    /// Each older than the next. `systemd-analyze compare-versions` of systemd 257 says the same of every pair.
    const RISING: &[&str] = &[
        "~1",
        "",
        "a",
        "b",
        "0~rc1",
        "0",
        "1~rc1",
        "1~rc2",
        "1",
        "1-1",
        "1-1.1",
        "1-2",
        "1-10",
        "1^1",
        "1^2",
        "1.a",
        "1.1",
        "1.1.1",
        "1.2",
        "1.9",
        "1.10",
        "1a",
        "2026.11.21-0",
        "2026.11.21-1",
        "2026.11.22-0",
        "18446744073709551616000",
    ];

    #[test]
    fn each_is_older_than_the_next() {
        for (at, older) in RISING.iter().enumerate() {
            for (place, other) in RISING.iter().enumerate() {
                assert_eq!(compare(older, other), at.cmp(&place), "{older} and {other}");
            }
        }
    }

    #[test]
    fn what_no_version_has_only_separates() {
        assert_eq!(compare("trilith_1.9", "trilith_1.10"), Ordering::Less);
        assert_eq!(compare("1_2", "1+2"), Ordering::Equal);
        assert_eq!(compare("1.01", "1.1"), Ordering::Equal);
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("1.01") < version("1.1"), "but they are two");
    }
}
