//! From which disk a machine was booted, and what that makes of the boot. The same release may lie on several disks, and
//! then all its partitions are there several times, under the same UUIDs: which of them count, the boot loader says.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{BadValue, is_sha256};

mod name; // how the files of systems are called, and how the boot loader counts in their names
#[cfg(test)]
mod tests;

pub use name::{Name, TRIES, Tries};

/// Where the initrd puts what it tells the root: a tmpfs, for root alone.
pub const FOLDER: &str = "/run/trilith-boot";

/// In it: the [`Boot`], in YAML.
pub const FILE: &str = "boot.yaml";
/// In it: the bundles of the medium that was booted.
pub const MEDIUM: &str = "medium";
/// In it: the kernel's name of the disk in memory that was fetched over the network, if the machine was started from there.
pub const FETCHED: &str = "fetched";
/// In it: a file that is there if what was booted is a medium or was fetched: nothing on it is made, grown or mounted.
pub const LIVE: &str = "live";
/// In it: a file that is there if /var is memory.
pub const RAM: &str = "ram";
/// In it, of such a boot: where /var is, and why ([`crate::keep::Outcome`]), in YAML.
pub const KEEP: &str = "keep.yaml";
/// In it: the bundle that a netboot server gave.
pub const NETWORK: &str = "network";

/// The type of the partition that makes a disk a medium, and holds its bundles (a tar file).
pub const CONFIG_TYPE: &str = "8d4b2ac8-66a9-4b1f-a3f0-2c5d1c0e7a4e";
/// Its label.
pub const CONFIG_LABEL: &str = "trilith-config";
/// The type of the partition that is /var on an installed disk: our own, so that nobody takes another one for it.
pub const VAR_TYPE: &str = "c459012a-150e-4d1f-b99d-925b11cffa1e";

/// The type of a root (UAPI group, Discoverable Partitions Specification; x86-64).
pub const ROOT_TYPE: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";

/// A partition as udev describes it. All UUIDs are in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// The kernel's name: `sda2`.
    pub name: String,
    /// The kernel's name of the disk that it is on: `sda`.
    pub disk: String,
    /// Its own UUID.
    pub uuid: String,
    /// The UUID of its type.
    pub kind: String,
    /// Whether the disk is an optical drive, or made from one.
    #[serde(default)]
    pub optical: bool,
}

/// The dm-verity root hash of a release: 256 bits in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RootHash(String);

/// What the boot loader tells of where it was started from (systemd's Boot Loader Interface).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loader {
    /// From the partition of this UUID (`LoaderDevicePartUUID`).
    Partition(String),
    /// It tells of itself, but of no partition: from an optical drive, which has none. A disk of the same release that is
    /// seen before the disc is not what was booted.
    NoPartition,
    /// It tells nothing: any disk counts that is the only one so far, and of several a disc.
    Silent,
}

/// The disk that was booted, by the kernel's names of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The disk: `sda`.
    pub disk: String,
    /// The root's data.
    pub data: String,
    /// The root's hash tree.
    pub hash: String,
    /// The partition with bundles: there is one on a medium, and on nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Whether the disk is in memory, fetched over the network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fetched: bool,
}

impl Boot {
    /// Whether it was from a medium or from the network, which is to change nothing in the machine by itself.
    pub fn leaves_no_trace(&self) -> bool {
        self.config.is_some() || self.fetched
    }
}

impl RootHash {
    /// Out of the kernel's command line. `None` if there is none, or none of this form.
    pub fn of_command_line(text: &str) -> Option<Self> {
        let hash = text.split_ascii_whitespace().find_map(|word| word.strip_prefix("roothash="))?;
        Self::try_from(hash.to_owned()).ok()
    }

    /// Of a root by the UUIDs of its partitions, in lower case. `None`: they are not of this form.
    pub fn of_partitions(data: &str, tree: &str) -> Option<Self> {
        Self::of_command_line(&format!("roothash={data}{tree}").replace('-', ""))
    }

    /// The UUID of the partition with the data: the first half (Discoverable Partitions Specification).
    pub fn data(&self) -> String {
        uuid(&self.0[..32])
    }

    /// The UUID of the partition with the hash tree: the second half.
    pub fn tree(&self) -> String {
        uuid(&self.0[32..])
    }
}

impl TryFrom<String> for RootHash {
    type Error = BadValue;

    fn try_from(hash: String) -> Result<Self, BadValue> {
        let rule = || BadValue("a root hash has 64 of 0-9 and a-f".into());
        if is_sha256(&hash) { Ok(Self(hash)) } else { Err(rule()) }
    }
}

impl From<RootHash> for String {
    fn from(hash: RootHash) -> Self {
        hash.0
    }
}

fn uuid(hex: &str) -> String {
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Whether an installed disk has lost its /var, or it is not there yet. One that was never installed has one slot, and gets
/// its /var at its first boot.
pub fn lacks_var(disk: &str, partitions: &[Partition]) -> bool {
    let here =
        |kind: &str| partitions.iter().filter(|it| it.disk == disk && it.kind == kind).count();
    here(ROOT_TYPE) > 1 && here(VAR_TYPE) == 0
}

/// Finds the disk that was booted among what is there so far. `None`: it is not there yet, or several could be it.
pub fn find(root: &RootHash, loader: &Loader, partitions: &[Partition]) -> Option<Boot> {
    let with = |uuid: String| partitions.iter().filter(move |it| it.uuid == uuid);
    let disks: Vec<&Partition> = with(root.data()).collect();
    let data = match loader {
        Loader::Partition(uuid) => {
            let booted = with(uuid.to_lowercase()).map(|esp| &esp.disk).collect::<Vec<_>>();
            *disks.iter().find(|data| booted.contains(&&data.disk))?
        }
        Loader::NoPartition => *disks.iter().find(|data| data.optical)?,
        Loader::Silent => match disks.as_slice() {
            [only] => only,
            several => several.iter().find(|data| data.optical)?,
        },
    };
    on_disk(root, data, partitions)
}

/// The same for a disk that was fetched over the network: it is the one that was booted, whatever else is there.
pub fn find_fetched(root: &RootHash, disk: &str, partitions: &[Partition]) -> Option<Boot> {
    let is_it = |it: &&Partition| it.disk == disk && it.uuid == root.data();
    let boot = on_disk(root, partitions.iter().find(is_it)?, partitions)?;
    // It is a release's own disk: bundles have come another way.
    Some(Boot { config: None, fetched: true, ..boot })
}

fn on_disk(root: &RootHash, data: &Partition, partitions: &[Partition]) -> Option<Boot> {
    let mut here = partitions.iter().filter(|it| it.disk == data.disk);
    let config = here.clone().find(|it| it.kind == CONFIG_TYPE);
    Some(Boot {
        disk: data.disk.clone(),
        data: data.name.clone(),
        hash: here.find(|it| it.uuid == root.tree())?.name.clone(),
        config: config.map(|it| it.name.clone()),
        fetched: false,
    })
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(uuid) => write!(f, "partition {uuid}"),
            Self::NoPartition => f.write_str("a disc"),
            Self::Silent => f.write_str("an unknown place"),
        }
    }
}
