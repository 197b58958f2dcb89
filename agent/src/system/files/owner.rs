//! Users and groups by their names, as this system knows them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};

use super::FileError;

/// A file's owner, by numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) user: Uid,
    pub(crate) group: Gid,
}

impl Ids {
    /// No file's owner.
    pub(crate) const NOBODY: Self =
        Self { user: Uid::from_raw(u32::MAX), group: Gid::from_raw(u32::MAX) };

    /// The owner of this file.
    pub(crate) fn of(about: &Metadata) -> Self {
        Self { user: Uid::from_raw(about.uid()), group: Gid::from_raw(about.gid()) }
    }

    /// The owner of what this process makes.
    pub(crate) fn us() -> Self {
        Self { user: geteuid(), group: getegid() }
    }

    /// The numbers of a user and a group.
    pub(crate) fn named(user: &str, group: &str) -> Result<Self, FileError> {
        let failed = |name: &str, errno: nix::Error| FileError::Owner {
            name: name.into(),
            source: errno.into(),
        };
        let found = User::from_name(user).map_err(|errno| failed(user, errno))?;
        let found_group = Group::from_name(group).map_err(|errno| failed(group, errno))?;
        Ok(Self {
            user: found.ok_or_else(|| FileError::NoUser(user.into()))?.uid,
            group: found_group.ok_or_else(|| FileError::NoGroup(group.into()))?.gid,
        })
    }

    /// Their names, or the numbers as text where there is no name.
    pub(crate) fn names(self) -> (String, String) {
        let user = User::from_uid(self.user).ok().flatten();
        let group = Group::from_gid(self.group).ok().flatten();
        (
            user.map_or_else(|| self.user.to_string(), |user| user.name),
            group.map_or_else(|| self.group.to_string(), |group| group.name),
        )
    }
}
