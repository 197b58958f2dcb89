//! What a release keeps in /var, and in which formats: derived from the packages in it. A program that was taken back may
//! not be able to read what the newer one wrote.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::version::{self, Version};

/// The format of what this agent keeps itself, in /var/lib/trilith and in ZooKeeper. It goes up with any change that the
/// agent of the release before could not read.
pub const STATE: u32 = 1;

/// The oldest that it still reads.
const STATE_FROM: u32 = 1;

/// The formats of one component. They are numbered by the version of the program that came with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// What it reads.
    pub reads: Range,
    /// What it leaves behind.
    pub writes: Version,
}

/// Formats from one to another, both included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The oldest.
    pub from: Version,
    /// The newest.
    pub to: Version,
}

impl Range {
    /// Whether this format is one of them.
    pub fn has(&self, format: &Version) -> bool {
        let order = |other: &Version| version::compare(format.as_str(), other.as_str());
        order(&self.from).is_ge() && order(&self.to).is_le()
    }
}

/// A program that keeps something in /var.
struct Component {
    name: &'static str,
    /// The package that tells its version. With `-` at its end: the package's name carries it.
    package: &'static str,
    /// How many numbers of the version name a format.
    numbers: usize,
    /// The oldest format that it reads.
    oldest: Oldest,
}

enum Oldest {
    /// Its own alone.
    Own,
    /// That of so many major versions before.
    Majors(u64),
    /// This one.
    Fixed(&'static str),
}

const COMPONENTS: &[Component] = &[
    // Upgrades skip at most one release, and there is no way back (docs.ceph.com, "General Upgrade Notes").
    Component { name: "ceph", package: "ceph-mon", numbers: 1, oldest: Oldest::Majors(2) },
    // State and machines' definitions of any older libvirt are read; newer ones may have what an older one refuses.
    Component {
        name: "libvirt",
        package: "libvirt-daemon",
        numbers: 2,
        oldest: Oldest::Fixed("0"),
    },
    // The data directory is of one major version (PostgreSQL manual, "Upgrading a PostgreSQL Cluster").
    Component { name: "postgresql", package: "postgresql-", numbers: 1, oldest: Oldest::Own },
    // A machine's definition names a machine type, which is of a QEMU version, and older QEMUs do not have it.
    Component { name: "qemu", package: "qemu-system-x86", numbers: 2, oldest: Oldest::Fixed("0") },
    // Snapshots and logs; from before 3.5 they need a setting (ZooKeeper's "Upgrade FAQ").
    Component { name: "zookeeper", package: "zookeeper", numbers: 2, oldest: Oldest::Fixed("3.5") },
];

/// A package that must be in every release is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the package list has no {package}, whose version tells the format of {component}")]
pub struct NoPackage {
    /// The package; with `-` at its end, a part of its name.
    pub package: &'static str,
    /// What is kept in /var by it.
    pub component: &'static str,
}

/// The formats of a release, from its package list: lines of name, version, architecture.
///
/// # Errors
/// A package is missing, or its version is none.
pub fn formats(packages: &str) -> Result<BTreeMap<String, Format>, NoPackage> {
    let mut formats = BTreeMap::from([("trilith".to_owned(), own())]);
    for component in COMPONENTS {
        let Component { name, package, .. } = component;
        let missing = NoPackage { package, component: name };
        formats.insert((*name).to_owned(), format(component, packages).ok_or(missing)?);
    }
    Ok(formats)
}

fn own() -> Format {
    let number = |format: u32| Version::number(format.into());
    Format { reads: Range { from: number(STATE_FROM), to: number(STATE) }, writes: number(STATE) }
}

fn format(component: &Component, packages: &str) -> Option<Format> {
    let Component { package, numbers, oldest, .. } = component;
    // While the data moves from one major version to the next, an image has both.
    let found = packages.lines().filter_map(|line| {
        let (name, version) = line.split_once(' ')?;
        match package.strip_suffix('-') {
            Some(_) => upstream(name.strip_prefix(package)?, *numbers),
            None => (name == *package).then(|| upstream(version, *numbers))?,
        }
    });
    let mut found: Vec<Version> = found.collect();
    found.sort();
    let (first, last) = (found.first()?.clone(), found.last()?.clone());
    let from = match oldest {
        Oldest::Own => first,
        Oldest::Majors(count) => {
            Version::number(first.as_str().parse::<u64>().ok()?.saturating_sub(*count))
        }
        Oldest::Fixed(format) => format.parse().ok()?,
    };
    Some(Format { reads: Range { from, to: last.clone() }, writes: last })
}

/// The first numbers of a Debian version, without its epoch. `None`: it does not begin with that many.
fn upstream(version: &str, numbers: usize) -> Option<Version> {
    let version = version.split(' ').next()?;
    let version = version.split_once(':').map_or(version, |(_epoch, rest)| rest);
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let parts: Vec<&str> = version[..end].split('.').take(numbers).collect();
    let whole = parts.len() == numbers && parts.iter().all(|part| !part.is_empty());
    whole.then(|| parts.join(".").parse().ok())?
}
