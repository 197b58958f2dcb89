//! From a medium to a disk: which disk a node is installed on, and the steps that lead there.
//!
//! Whatever needs something else comes after it: the partition table is written when the file systems in it are made, a
//! slot gets its name when it was read back against the root's hash, and the kernel is put where the boot loader finds it
//! when all that it needs is there. So a power cut leaves a disk that boots, or one that is installed again from the
//! start; nothing is remembered but what is on the disk.
//!
//! A medium installs a node once. The disk remembers from which medium that was, so that a medium that stays in the machine
//! starts the disk, and so that `wipe`, which stays in the cluster file, wipes once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::belonging::{Belonging, Refusal as Unwelcome};
use crate::bundle::Bundle;
use crate::config::Disk;
use crate::disks::Block;
use crate::keep::Kept;
use crate::release::Manifest;
use crate::status::problem;
use crate::subject::{OnFailure, Plan, Subject};

mod choose; // which disk
mod layout; // what an installed disk looks like
#[cfg(test)]
mod tests;

pub use choose::{Chosen, Refusal, choose};
pub(crate) use choose::{Wanted, blank, help, sole, unfit};
pub use layout::{EMPTY, ESP, LEAST, Layout, Part, TREE};

/// Where the agent puts what it wishes for: the node's bundle, under [`WISH`]. It holds secrets.
pub const FOLDER: &str = "/run/trilith/install";
/// The node's bundle in [`FOLDER`].
pub const WISH: &str = "bundle.yaml";
/// What the installer says of itself, in lines for people.
pub const STATE: &str = "/run/trilith-install/state";

/// So often the firmware is told to start the disk before it is taken for one that does not listen. Once is too little: the
/// power may fail on the way.
pub const TIMES: u32 = 3;

/// On the disk's /var: the medium that it was prepared from.
pub const MEDIUM: &str = "lib/trilith/medium";

/// The installation of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Install;

/// What is to be on the disk, and which disk that is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Desired {
    /// Which disk.
    pub disk: Disk,
    /// Disks that are something else's.
    pub osds: Vec<Disk>,
    /// Disks that need not be blank, by serial number or name by ID.
    pub wipe: BTreeSet<String>,
    /// What is installed.
    pub release: Release,
    /// The medium that was booted: the UUID of its partition table.
    pub medium: String,
}

/// A release by what its partitions are called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Release {
    /// The label of its partitions: name and version.
    pub label: String,
    /// The UUID of its root.
    pub data: String,
    /// The UUID of its root's hash tree.
    pub tree: String,
}

/// What the machine shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observed {
    /// Every disk by the kernel's name.
    pub disks: BTreeMap<String, Candidate>,
}

/// A disk that may be the one.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is what the kernel says of it, apart from the others"
)]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Candidate {
    /// What it is.
    pub block: Block,
    /// Its vendor, as the kernel shows it.
    pub vendor: Option<String>,
    /// Whether the machine was booted from it.
    pub booted: bool,
    /// Whether it is an optical drive.
    pub optical: bool,
    /// Whether its medium can be taken out.
    pub removable: bool,
    /// Whether it cannot be written to.
    pub read_only: bool,
    /// What is on it and on its partitions: `gpt`, `ext4`, `ceph_bluestore`; `data`: bytes that nobody knows.
    pub signatures: BTreeSet<String>,
    /// What an installation has left on it, if its partitions are those of an installed disk.
    pub system: Option<System>,
    /// The /var that is alone on it, as a node without a system disk keeps it.
    pub kept: Option<Kept>,
}

/// An installed disk, or one that is becoming one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Its partitions.
    pub layout: Layout,
    /// The medium that it was installed from to the end.
    #[serde(default)]
    pub installed_from: Option<String>,
    /// What its /var says.
    pub var: Var,
    /// How often the firmware was told to start it since it was started last.
    #[serde(default)]
    pub told: u32,
}

/// What a /var says of whom it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Var {
    /// Nothing was ever written to it.
    Empty,
    /// This node, and from which medium it was prepared last.
    Ours(Option<String>),
    /// Somebody else, in words.
    Others(String),
    /// Why it cannot be read.
    Unreadable(String),
}

/// One of the two places for a release, by its index in [`Layout::slots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub usize);

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Divide the disk anew. What was on it is gone.
    Partition(String),
    /// Take the name from a slot: what is in it is about to be overwritten.
    EmptySlot(String, Slot),
    /// Copy the release into a slot.
    CopySlot(String, Slot),
    /// Read the slot back, whole, against the root's hash.
    VerifySlot(String, Slot),
    /// Give the slot the release's name and UUIDs.
    NameSlot(String, Slot),
    /// Put onto /var who the node is: machine ID, bundle, belonging.
    WriteState(String),
    /// Put loader and kernel onto the ESP, the kernel last.
    WriteKernel(String),
    /// Remember that this medium's work is done.
    Remember(String),
    /// Have the firmware start this disk first from now on.
    BootEntries(String),
    /// Have the firmware start this disk next, whatever its order says.
    BootNext(String),
    /// Start the machine anew.
    Reboot,
}

impl Release {
    /// What a release's partitions are called.
    pub fn of(manifest: &Manifest) -> Self {
        let Manifest { version, root_hash, .. } = manifest;
        Self { label: version.label(), data: root_hash.data(), tree: root_hash.tree() }
    }
}

impl Slot {
    /// The one beside it.
    #[must_use]
    pub fn other(self) -> Self {
        Self(1 - self.0.min(1))
    }
}

impl Desired {
    /// What a bundle asks for, of the release and the medium that were booted. `None`: the node is diskless.
    pub fn of(bundle: &Bundle, release: Release, medium: String) -> Option<Self> {
        let node = bundle.config.node(bundle.node)?;
        let disk = node.system_disk.clone()?;
        let osds = node.osds.iter().map(|osd| osd.disk.clone()).collect();
        Some(Self { disk, osds, wipe: node.wipe.iter().cloned().collect(), release, medium })
    }
}

impl Var {
    /// What a /var says that holds this word of whom it belongs to, if any, and of the medium that it was prepared from.
    /// Where no bundle was ever taken there is nothing that anybody could miss.
    pub fn of(belonging: Option<&str>, medium: Option<&str>, bundle: &Bundle) -> Self {
        let Some(text) = belonging else { return Self::Empty };
        let own = match Belonging::parse(text) {
            Ok(own) => own,
            Err(error) => return Self::Unreadable(error.to_string()),
        };
        let Some(new) = Belonging::of(bundle) else { return Self::Empty };
        match own.admits(&new, &bundle.signer) {
            Ok(()) => Self::Ours(medium.map(str::to_owned)),
            Err(Unwelcome::Stranger(_)) => Self::Others(format!(
                "its /var is that of node {} ({}) of the cluster {} with the fsid {}",
                own.node, own.name, own.cluster, own.fsid
            )),
            Err(signer @ Unwelcome::Signer) => Self::Others(signer.to_string()),
        }
    }
}

impl Subject for Install {
    const NAME: &'static str = "install";
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    /// Each step stands on the one before.
    const ON_FAILURE: OnFailure = OnFailure::Stop;

    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        match choose(desired, &observed.disks) {
            Err(refusal) => Plan { problems: refusal.problems("system_disk"), ..Plan::default() },
            Ok(Chosen { name, system: None }) => {
                Plan { steps: vec![Step::Partition(name.to_owned())], ..Plan::default() }
            }
            Ok(Chosen { name, system: Some(system) }) => installed_or_not(desired, name, system),
        }
    }
}

/// What is left to do on a disk that is divided.
fn installed_or_not(desired: &Desired, name: &str, system: &System) -> Plan<Step> {
    // The node may have been upgraded since: a medium that stays in the machine must not take it back.
    let is_installed = system.installed_from.as_ref() == Some(&desired.medium);
    let steps = match (is_installed, system.told < TIMES) {
        (false, _) => steps(desired, name, system),
        (true, true) => start(name),
        (true, false) => {
            let problems = vec![problem(name, deaf())];
            return Plan { problems, ..Plan::default() };
        }
    };
    Plan { steps, ..Plan::default() }
}

/// What is said of a firmware that does not start the disk.
fn deaf() -> String {
    format!(
        "the node is installed on it, but the firmware, told {TIMES} times to start it, starts this medium: take the medium \
         out, or put the disk first in the firmware's setup, and reset the machine"
    )
}

fn start(disk: &str) -> Vec<Step> {
    let disk = || disk.to_owned();
    vec![Step::BootEntries(disk()), Step::BootNext(disk()), Step::Reboot]
}

fn steps(desired: &Desired, name: &str, system: &System) -> Vec<Step> {
    let disk = || name.to_owned();
    let mut steps = Vec::new();
    if system.layout.slot_of(&desired.release).is_none() {
        let (slot, is_free) = system.layout.slot_to_use();
        if !is_free {
            steps.push(Step::EmptySlot(disk(), slot));
        }
        steps.push(Step::CopySlot(disk(), slot));
        steps.push(Step::VerifySlot(disk(), slot));
        steps.push(Step::NameSlot(disk(), slot));
    }
    if system.var != Var::Ours(Some(desired.medium.clone())) {
        steps.push(Step::WriteState(disk()));
    }
    // What is there already is not written again.
    steps.extend([Step::WriteKernel(disk()), Step::Remember(disk())]);
    steps.extend(start(name));
    steps
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == 0 { "slot A" } else { "slot B" })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(disk) => write!(f, "divide {disk} into partitions"),
            Self::EmptySlot(disk, slot) => write!(f, "take the name from {slot} of {disk}"),
            Self::CopySlot(disk, slot) => write!(f, "copy the release to {slot} of {disk}"),
            Self::VerifySlot(disk, slot) => write!(f, "read {slot} of {disk} back"),
            Self::NameSlot(disk, slot) => write!(f, "name {slot} of {disk}"),
            Self::WriteState(disk) => write!(f, "write who the node is to {disk}"),
            Self::WriteKernel(disk) => write!(f, "write loader and kernel to {disk}"),
            Self::Remember(disk) => write!(f, "remember the medium on {disk}"),
            Self::BootEntries(disk) => write!(f, "have the firmware start {disk}"),
            Self::BootNext(disk) => write!(f, "have the firmware start {disk} next"),
            Self::Reboot => f.write_str("reboot"),
        }
    }
}
