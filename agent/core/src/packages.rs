//! What changes between the packages of two releases, and what of it matters for security.
//!
//! A list has one line for each package, NAME VERSION ARCHITECTURE, as it stands beside an image.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// Packages whose versions decide whether a node can be attacked from outside or out of a machine: the source packages
/// that a CVE names, by the beginnings of their binary packages' names.
const RELEVANT: &[(&str, &[&str])] = &[
    ("kernel", &["linux-image-", "linux-base"]),
    ("openssl", &["openssl", "libssl3"]),
    ("openssh", &["openssh-"]),
    ("qemu", &["qemu-"]),
    ("libvirt", &["libvirt"]),
    (
        "ceph",
        &[
            "ceph",
            "librados",
            "librbd",
            "libcephfs",
            "python3-ceph",
            "python3-rados",
            "python3-rbd",
        ],
    ),
    ("postgresql", &["postgresql-", "libpq5"]),
    ("zookeeper", &["zookeeper", "libzookeeper"]),
    ("frr", &["frr"]),
    ("systemd", &["systemd", "libsystemd", "libudev", "udev", "libnss-systemd", "libpam-systemd"]),
];

/// The packages of one release: versions by name and architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packages(BTreeMap<(String, String), String>);

/// A line that is no package's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: a package list has NAME VERSION ARCHITECTURE in each line, and here is: {text}"
)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is there.
    pub text: String,
}

/// What happens to one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// The version before; `None`: it is added.
    pub from: Option<String>,
    /// The version after; `None`: it is removed.
    pub to: Option<String>,
    /// What it belongs to, if that matters for security.
    pub relevant: Option<&'static str>,
}

impl Packages {
    /// Reads a list.
    ///
    /// # Errors
    /// A line is no package's.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let mut packages = BTreeMap::new();
        for (at, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let words: Vec<&str> = text.split_whitespace().collect();
            let &[name, version, architecture] = words.as_slice() else {
                return Err(BadLine { line: at + 1, text: text.to_owned() });
            };
            packages.insert((name.to_owned(), architecture.to_owned()), version.to_owned());
        }
        Ok(Self(packages))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What changes from these to those: what matters for security first, then by name. A kernel has its version in its
    /// name, so that one is removed and another one added.
    pub fn changes(&self, to: &Self) -> Vec<Change> {
        let keys = self.0.keys().chain(to.0.keys().filter(|key| !self.0.contains_key(*key)));
        let mut changes: Vec<Change> =
            keys.filter_map(|key| change(key, self.0.get(key), to.0.get(key))).collect();
        changes.sort_by(|a, b| {
            let key =
                |it: &Change| (it.relevant.is_none(), it.name.clone(), it.architecture.clone());
            key(a).cmp(&key(b))
        });
        changes
    }
}

fn change(key: &(String, String), from: Option<&String>, to: Option<&String>) -> Option<Change> {
    let (name, architecture) = key.clone();
    let relevant = relevance(&name);
    let changed = Change { name, architecture, from: from.cloned(), to: to.cloned(), relevant };
    (from != to).then_some(changed)
}

/// What a package belongs to, if that matters for security.
fn relevance(name: &str) -> Option<&'static str> {
    let belongs = |(_, begins): &&(&str, &[&str])| begins.iter().any(|it| name.starts_with(it));
    RELEVANT.iter().find(belongs).map(|(what, _)| *what)
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, architecture: _ /* nearly always the same */, from, to, relevant } = self;
        match (from, to) {
            (Some(from), Some(to)) if compare(from, to).is_gt() => {
                write!(f, "{name} {from} -> {to} (older)")?;
            }
            (Some(from), Some(to)) => write!(f, "{name} {from} -> {to}")?,
            (None, Some(to)) => write!(f, "{name} {to} added")?,
            (Some(from), None) => write!(f, "{name} {from} removed")?,
            (None, None) => f.write_str(name)?,
        }
        relevant.map_or(Ok(()), |what| write!(f, " [CVE-relevant: {what}]"))
    }
}

/// Which of two versions of a Debian package is newer (Debian Policy 5.6.12, deb-version(7)): epoch, then upstream's
/// version, then Debian's revision.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (split(left), split(right));
    let epochs = numbers(left.0, right.0);
    epochs.then_with(|| parts(left.1, right.1)).then_with(|| parts(left.2, right.2))
}

/// Epoch, upstream's version and revision. Without a revision it is as if that were `0`.
fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    (epoch, upstream, revision)
}

/// By turns what is no digit, by its own order, and what is, by value (dpkg's `verrevcmp`).
fn parts(mut left: &str, mut right: &str) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let order = words(take(&mut left, false), take(&mut right, false))
            .then_with(|| numbers(take(&mut left, true), take(&mut right, true)));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// The stretch of digits, or of all else, in front.
fn take<'a>(text: &mut &'a str, digits: bool) -> &'a str {
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    *text = rest;
    taken
}

/// `~` comes before the end, the end before letters, letters before all else.
fn words(left: &str, right: &str) -> Ordering {
    let weight = |c: char| match c {
        '~' => (0, c),
        c if c.is_ascii_alphabetic() => (2, c),
        c => (3, c),
    };
    let end = (1, '\0');
    let longest = left.len().max(right.len());
    let side = |text: &str| -> Vec<(u8, char)> {
        text.chars().map(weight).chain(std::iter::repeat(end)).take(longest).collect()
    };
    side(left).cmp(&side(right))
}

/// By value, of any length; nothing is 0.
fn numbers(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests;
