//! Which units should run on a node, how, and which files should be there before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::limits::{Capacity, Limits};
use super::names::{Template, UnitName};
use super::owned;
use crate::config::Reserve;
use crate::names::BadValue;

/// Which units should run, and which files should be there before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Desired {
    /// The units that should be active.
    pub units: BTreeMap<UnitName, UnitWish>,
    /// The templates of which a unit should be active for each folder that is found on the host.
    pub instances: BTreeMap<Template, Instances>,
    /// Whole files by absolute path.
    pub files: BTreeMap<String, File>,
}

/// How a unit should run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnitWish {
    /// The files of [`Desired::files`] that it reads when it starts, and what a change of them asks for. A path
    /// that ends with `/` stands for every file in that folder. It is not started before all of them are as
    /// desired.
    pub reads: BTreeMap<String, OnChange>,
    /// Absolute paths that must exist before it is started. So a subject gives its permission: what it prepares,
    /// such as a data directory, is the memory. A unit that runs is not stopped for want of one.
    pub needs: BTreeSet<String>,
    /// Absolute paths that must exist before it is restarted or reloaded because of a changed file, while it
    /// runs. So a subject lets one coordinator after the other do it.
    pub permits: BTreeSet<String>,
    /// Its share of the machine.
    pub limits: Limits,
    /// What is kept from it, of what the machine has. These come before the limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without: Option<Reserve>,
}

/// What a unit must do to take notice of a changed file. The later one includes the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnChange {
    /// Nothing: it reads the file each time that it needs it.
    Nothing,
    /// Reload (`ExecReload=`, `SIGHUP`).
    Reload,
    /// Restart.
    Restart,
}

/// Units of a template, one for each folder that is found. Which they are is the host's memory: an OSD is started
/// because its data is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instances {
    /// Where the folders are, such as `/var/lib/ceph/osd`.
    pub folder: String,
    /// How their names begin, such as `ceph-`; what follows is the instance's name.
    pub prefix: String,
    /// How each unit should run. `%i` in a path stands for the instance's name.
    #[serde(default)]
    pub wish: UnitWish,
}

/// A file as it should be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Everything in it.
    pub content: String,
    /// The permission bits, such as 0o600.
    pub mode: u32,
    /// Whose it is.
    #[serde(default)]
    pub owner: Owner,
    /// Who must accept it before it takes the old one's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checker: Option<Checker>,
}

/// A user and a group by name, written `frr:frr`. A number stands for one that has no name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner {
    /// The user.
    pub user: String,
    /// The group.
    pub group: String,
}

/// A folder for the secrets of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// The permission bits.
    pub mode: u32,
    /// Whose it is.
    #[serde(default)]
    pub owner: Owner,
}

/// The program of a service that tells whether a configuration is good, without using it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checker {
    /// `vtysh`, for frr.conf.
    Vtysh,
    /// `patroni`, for patroni.yml.
    Patroni,
    /// `nft`, for a whole ruleset.
    Nft,
    /// `sshd`, for a whole `sshd_config`.
    Sshd,
    /// `chronyd`, for chrony.conf.
    Chrony,
    /// `ceph-conf`, for ceph.conf.
    Ceph,
}

impl Desired {
    /// Adds all that `other` asks for; where both name the same thing, `other` wins.
    pub fn add(&mut self, other: Self) {
        let Self { units, instances, files } = other;
        self.units.extend(units);
        self.instances.extend(instances);
        self.files.extend(files);
    }

    /// Every unit that should be active, given the instances that the host has and how large it is.
    pub fn wishes(
        &self,
        found: &BTreeMap<Template, BTreeSet<String>>,
        capacity: &Capacity,
    ) -> BTreeMap<UnitName, UnitWish> {
        let instances = self.instances.iter().flat_map(|(template, instances)| {
            let names = found.get(template).into_iter().flatten();
            // What no unit can be named after is no instance.
            names.filter_map(|name| Some((template.instance(name).ok()?, instances.wish.of(name))))
        });
        let all = self.units.clone().into_iter().chain(instances);
        all.map(|(name, wish)| (name, wish.on(capacity))).collect()
    }

    /// The folders of secrets: mode 0700, and of the owner of what is in them.
    pub fn folders(&self) -> BTreeMap<String, Folder> {
        let folder = |(path, file): (&String, &File)| {
            let (folder, _) = path.strip_prefix(owned::SECRETS)?.split_once('/')?;
            let path = format!("{}{folder}", owned::SECRETS);
            Some((path, Folder { mode: 0o700, owner: file.owner.clone() }))
        };
        self.files.iter().filter_map(folder).collect()
    }
}

impl UnitWish {
    /// Also reads this file, and reloads when it changes.
    #[must_use]
    pub fn reloads_on(self, path: impl Into<String>) -> Self {
        self.reads(path, OnChange::Reload)
    }

    /// Also reads this file, and restarts when it changes.
    #[must_use]
    pub fn restarts_on(self, path: impl Into<String>) -> Self {
        self.reads(path, OnChange::Restart)
    }

    /// Also reads this file.
    #[must_use]
    pub fn reads(mut self, path: impl Into<String>, change: OnChange) -> Self {
        self.reads.insert(path.into(), change);
        self
    }

    /// Is not started before this path exists.
    #[must_use]
    pub fn needs(mut self, path: impl Into<String>) -> Self {
        self.needs.insert(path.into());
        self
    }

    /// Is not restarted or reloaded for a changed file before this path exists.
    #[must_use]
    pub fn asks(mut self, path: impl Into<String>) -> Self {
        self.permits.insert(path.into());
        self
    }

    /// Has these limits.
    #[must_use]
    pub fn limited(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Has all of the machine but this.
    #[must_use]
    pub fn leaves(mut self, reserve: Reserve) -> Self {
        self.without = Some(reserve);
        self
    }

    /// The wish on a machine of this size.
    fn on(mut self, capacity: &Capacity) -> Self {
        if let Some(reserve) = self.without.take() {
            self.limits = capacity.without(reserve, &self.limits);
        }
        self
    }

    /// What a change of this file asks for, if it is read at all.
    pub fn on_change(&self, path: &str) -> Option<OnChange> {
        let hit = |read: &String| {
            read == path || (read.ends_with('/') && path.starts_with(read.as_str()))
        };
        self.reads.iter().filter(|(read, _)| hit(read)).map(|(_, change)| *change).max()
    }

    /// The wish for one instance of a template.
    fn of(&self, instance: &str) -> Self {
        let Self { reads, needs, permits, limits, without } = self;
        let path = |path: &String| path.replace("%i", instance);
        Self {
            reads: reads.iter().map(|(read, change)| (path(read), *change)).collect(),
            needs: needs.iter().map(path).collect(),
            permits: permits.iter().map(path).collect(),
            limits: limits.clone(),
            without: *without,
        }
    }
}

impl File {
    /// A file of root's that everybody may read.
    pub fn new(content: impl Into<String>) -> Self {
        Self { content: content.into(), mode: 0o644, owner: Owner::default(), checker: None }
    }

    /// A file that only its owner may read, for [`owned::SECRETS`].
    pub fn secret(content: impl Into<String>, owner: Owner) -> Self {
        Self { content: content.into(), mode: 0o600, owner, checker: None }
    }

    /// The same with these permission bits.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// The same for this owner.
    #[must_use]
    pub fn owned_by(self, owner: Owner) -> Self {
        Self { owner, ..self }
    }

    /// The same, checked before it takes the old one's place.
    #[must_use]
    pub fn checked_by(self, checker: Checker) -> Self {
        Self { checker: Some(checker), ..self }
    }
}

impl Owner {
    /// This user and this group.
    pub fn new(user: impl Into<String>, group: impl Into<String>) -> Self {
        Self { user: user.into(), group: group.into() }
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new("root", "root")
    }
}

impl TryFrom<String> for Owner {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        match text.split_once(':') {
            Some((user, group)) if !user.is_empty() && !group.is_empty() => {
                Ok(Self::new(user, group))
            }
            _ => Err(BadValue("an owner is a user and a group, such as frr:frr".into())),
        }
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.to_string()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vtysh => "vtysh",
            Self::Patroni => "patroni",
            Self::Nft => "nft",
            Self::Sshd => "sshd",
            Self::Chrony => "chronyd",
            Self::Ceph => "ceph-conf",
        })
    }
}

impl fmt::Display for OnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Reload => "reload",
            Self::Restart => "restart",
        })
    }
}

/// Sizes only: files hold secrets, and a plan is printed.
impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content, mode, owner, checker } = self;
        write!(f, "File {{ {} bytes, mode {mode:04o}, {owner}, {checker:?} }}", content.len())
    }
}
