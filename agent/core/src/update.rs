//! From one release to another, on a disk that was installed: the release comes into the slot that does not run, is staged
//! beside what boots, and is started when that is wished for.
//!
//! Whatever needs something else comes after it: what boots from a slot goes before the slot is written, a slot gets its
//! name when it was read back against the root's hash, and the system comes to where the boot loader looks when all that
//! it needs is there. So a power cut leaves a disk that boots what it booted before, and the same wish goes on from there.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::boot::RootHash;
use crate::gate::FailedList;
use crate::install::{Layout, Release, Slot};
use crate::release::Manifest;
use crate::status::{Problem, problem};
use crate::subject::{OnFailure, Plan, Subject};
use crate::version::Version;

pub mod peers; // which nodes are asked before the source is
mod state; // what the updater says of itself
pub mod systems; // the systems on an ESP, by their names
#[cfg(test)]
mod tests;
mod wish; // what is wished for

pub use state::{Progress, State, Trial};
pub use systems::{Place, System};
pub use wish::{Source, TRIAL, Wish};

/// Where a wish is put.
pub const FOLDER: &str = "/run/trilith/update";
/// The wish in [`FOLDER`], in YAML.
pub const WISH: &str = "wish.yaml";
/// What the updater says of itself, in YAML ([`State`]).
pub const STATE: &str = "/run/trilith-update/state.yaml";

/// What a FAT file system takes beyond a file's own bytes: its last cluster, and its name.
const SLACK: u64 = 64 << 10;

/// What else is written into /var while a system is fetched: signed metadata, and how far the fetch has come.
const NOTES: u64 = 4 << 20;

/// The updates of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update;

/// What there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observed {
    /// The disk that was booted, if the node is installed on it.
    pub disk: Option<Disk>,
    /// The root that runs.
    pub running: Option<RootHash>,
    /// What the source has of the wish. `None`: nobody has looked yet.
    pub offer: Option<Offer>,
    /// How many bytes there are for what is fetched into /var, with what was fetched there already; `None`: nobody has looked.
    pub room: Option<u64>,
    /// For which root a fetch into the free slot was begun and not ended.
    pub begun: Option<RootHash>,
    /// Which releases have failed on this node, as the gate remembers them.
    pub failed: FailedList,
    /// Whether the gate was told of this wish: [`Step::Remember`] is done.
    pub remembered: bool,
    /// Whether the gate has called this boot proven, or one that needs no proof.
    pub proven: bool,
}

/// The disk that was booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its partitions.
    pub layout: Layout,
    /// How many bytes each slot has room for: root, hash tree.
    pub room: [(u64, u64); 2],
    /// What is on its ESP.
    pub esp: Esp,
}

/// An ESP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Esp {
    /// How many bytes are free.
    pub free: u64,
    /// Every system on it.
    pub systems: Vec<System>,
}

/// What a source has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The release that is wished for; `None`: there is none of this version.
    pub next: Option<Manifest>,
    /// The release that runs; `None`: there is none of this version and this root.
    pub running: Option<Manifest>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// See what the source has: its signed metadata, and the manifests that they lead to.
    Look,
    /// Remove every system from the ESP that boots this slot, or that nobody knows.
    Retire(Slot),
    /// Take the name from the slot: what is in it is about to be overwritten.
    EmptySlot(Slot),
    /// Fetch root and hash tree into the slot.
    Fetch {
        /// Which slot.
        slot: Slot,
        /// Whether it was begun before.
        again: bool,
    },
    /// Read the slot back, whole, against the root's hash.
    VerifySlot(Slot),
    /// Give the slot the release's name and UUIDs.
    NameSlot(Slot),
    /// Put the system onto the ESP, where no boot loader looks.
    Stage(Version),
    /// Have the gate write down what the node is part of.
    Remember(Version),
    /// Put the system where the boot loader finds it, with its tries.
    Activate(Version),
    /// Mark the system of a newer release as one that failed: the boot loader takes it last.
    Demote(Version),
    /// Start the machine anew.
    Reboot,
}

impl Subject for Update {
    const NAME: &'static str = "update";
    type Desired = Option<Wish>;
    type Observed = Observed;
    type Step = Step;

    /// Each step stands on the one before.
    const ON_FAILURE: OnFailure = OnFailure::Stop;

    fn plan(desired: &Option<Wish>, observed: &Observed) -> Plan<Step> {
        let Some(wish) = desired else { return Plan::default() };
        match plan(wish, observed) {
            Ok(steps) => Plan { steps, ..Plan::default() },
            Err(problems) => Plan { problems, ..Plan::default() },
        }
    }
}

/// A wish against what there is, as far as a plan needs it.
struct Case<'a> {
    wish: &'a Wish,
    disk: &'a Disk,
    running: &'a RootHash,
    /// The slot that does not run.
    slot: Slot,
    next: &'a Manifest,
    /// Whether a fetch of it into that slot was begun.
    begun: bool,
    /// How many bytes there are for its system in /var.
    room: Option<u64>,
}

fn plan(wish: &Wish, observed: &Observed) -> Result<Vec<Step>, Vec<Problem>> {
    let refused = |reason: String| vec![problem(wish.version.as_str(), reason)];
    let (disk, running) = at_home(observed).map_err(refused)?;
    let here = disk.layout.slot_running(running).ok_or_else(|| refused(no_slot()))?;
    let version = disk.layout.version(here).ok_or_else(|| refused(no_slot()))?;
    if version == wish.version {
        return Ok(Vec::new());
    }
    admitted(wish, &version, observed).map_err(refused)?;
    proven(disk, running, observed.proven)
        .map_err(|reason| refused(format!("{version}, which runs, {reason}")))?;
    let Some(offer) = &observed.offer else { return Ok(vec![Step::Look]) };
    let next = offered(wish, &version, offer)?;
    let begun = observed.begun.as_ref() == Some(&next.root_hash);
    let case = Case { wish, disk, running, slot: here.other(), next, begun, room: observed.room };
    let mut steps = case.fill_slot().map_err(refused)?;
    steps.extend(case.onto_esp(!steps.is_empty()).map_err(refused)?);
    if wish.activate {
        steps.extend(case.started(observed.remembered, &version));
    }
    Ok(steps)
}

/// The disk and the root of a node that is installed.
fn at_home(observed: &Observed) -> Result<(&Disk, &RootHash), String> {
    let reason = "this node runs from a medium or from the network and has no slots: start the new release from there";
    let disk = observed.disk.as_ref().ok_or_else(|| reason.to_owned())?;
    let running = observed.running.as_ref().ok_or("the kernel's command line names no root")?;
    Ok((disk, running))
}

fn no_slot() -> String {
    "the root that runs is in no slot of the disk that was booted: reinstall the node".into()
}

/// What speaks against a wish before anybody has asked the source.
fn admitted(wish: &Wish, running: &Version, observed: &Observed) -> Result<(), String> {
    if wish.version < *running && !wish.back {
        return Err(format!(
            "it is older than {running}, which runs: this is no upgrade; to go back, say so"
        ));
    }
    // Another build of that version is asked for again as well: what it is, the source has not said yet.
    match observed.failed.has(&wish.version, None) {
        Some(failed) if !wish.again => Err(format!(
            "it failed on this node and is not tried again unless told to: {}",
            failed.why
        )),
        _ => Ok(()),
    }
}

/// Whether the release that runs has proven itself, and is started again: else the slot beside it is the way back.
fn proven(disk: &Disk, running: &RootHash, proven: bool) -> Result<(), String> {
    let is_it = |it: &&System| it.place == Place::Boot && it.root.as_ref() == Some(running);
    let mut systems = disk.esp.systems.iter().filter(is_it).peekable();
    if systems.peek().is_none() {
        return Err("has no system on the EFI system partition that would start it again: reinstall the node".into());
    }
    // In its last try a system is called as one that has failed: then only the gate knows.
    if systems.any(|it| it.on_trial() || (it.is_bad() && !proven)) {
        return Err("is on trial, and the other slot is its way back".into());
    }
    Ok(())
}

/// The manifest of the release, if it may take the place of the one that runs.
fn offered<'a>(
    wish: &Wish,
    version: &Version,
    offer: &'a Offer,
) -> Result<&'a Manifest, Vec<Problem>> {
    let refused = |reason: String| problem(wish.version.as_str(), reason);
    let next = offer.next.as_ref();
    let next =
        next.ok_or_else(|| vec![refused(format!("{} does not have this release", wish.source))])?;
    let running = offer.running.as_ref().ok_or_else(|| {
        vec![refused(format!(
            "{} does not have {version} as it runs here, so nobody can say whether this one reads its data",
            wish.source
        ))]
    })?;
    let judged =
        if wish.version < *version { running.may_return(next) } else { running.may_follow(next) };
    judged
        .map_err(|reasons| reasons.iter().map(|reason| refused(reason.to_string())).collect())
        .map(|()| next)
}

impl Case<'_> {
    /// The release comes into the slot, unless it is there.
    fn fill_slot(&self) -> Result<Vec<Step>, String> {
        let (slot, layout) = (self.slot, &self.disk.layout);
        if layout.slot_of(&Release::of(self.next)) == Some(slot) {
            return Ok(Vec::new());
        }
        let (root, tree) = self.disk.room[slot.0];
        for (name, part, room) in
            [("root", &self.next.root, root), ("hash tree", &self.next.verity, tree)]
        {
            if part.size > room {
                return Err(format!(
                    "its {name} has {} bytes, and {slot} has room for {room}",
                    part.size
                ));
            }
        }
        let mut steps = Vec::new();
        if self.disk.esp.systems.iter().any(|system| self.goes(system)) {
            steps.push(Step::Retire(slot));
        }
        if !layout.is_free_slot(slot) {
            steps.push(Step::EmptySlot(slot));
        }
        steps.push(Step::Fetch { slot, again: layout.is_free_slot(slot) && self.begun });
        steps.extend([Step::VerifySlot(slot), Step::NameSlot(slot)]);
        Ok(steps)
    }

    /// Whether a system goes when the slot is overwritten: nothing but what runs has its root any more.
    fn goes(&self, system: &System) -> bool {
        system.root.as_ref() != Some(self.running)
    }

    /// The system comes onto the ESP, unless it is there. `overwrites`: what has no root any more goes before.
    fn onto_esp(&self, overwrites: bool) -> Result<Option<Step>, String> {
        // What has failed is staged anew where it is to be tried again: it is not started before its turn.
        let fails = |it: &System| it.place == Place::Boot && it.is_bad();
        let waits = |it: &System| !(self.wish.again && !self.wish.activate && fails(it));
        let there = !overwrites && self.ours().any(waits);
        let in_place = there && self.ours().any(|it| it.place == Place::Boot);
        // It is there twice while it is activated: FAT cannot be trusted to move a file at one stroke.
        let copies = u64::from(!there) + u64::from(self.wish.activate && !in_place);
        let systems = self.disk.esp.systems.iter();
        let freed: u64 =
            systems.filter(|it| overwrites && self.goes(it)).map(|system| system.size).sum();
        let (room, need) = (self.disk.esp.free + freed, copies * (self.next.uki.size + SLACK));
        if need > room {
            return Err(format!(
                "its system needs {need} bytes on the EFI system partition, and {room} are free: remove what does not \
                 belong there"
            ));
        }
        if !there {
            self.fits_into_var()?;
        }
        Ok((!there).then(|| Step::Stage(self.wish.version.clone())))
    }

    /// The system is put together in /var, beside the one that runs.
    fn fits_into_var(&self) -> Result<(), String> {
        let runs = |it: &&System| it.root.as_ref() == Some(self.running);
        let old = self.disk.esp.systems.iter().filter(runs).map(|it| it.size).max();
        let need = self.next.uki.size + old.unwrap_or_default() + NOTES;
        match self.room {
            Some(room) if room < need => Err(format!(
                "its system is put together in /var, which needs {need} bytes there, and {room} are free: make room in /var"
            )),
            _ => Ok(()),
        }
    }

    /// The systems on the ESP that are this release's, to the byte.
    fn ours(&self) -> impl Iterator<Item = &System> {
        let ours = |it: &&System| it.sha256 == self.next.uki.sha256;
        self.disk.esp.systems.iter().filter(ours)
    }

    /// What has the release started.
    fn started(&self, remembered: bool, running: &Version) -> Vec<Step> {
        let version = || self.wish.version.clone();
        let mut steps = Vec::new();
        let activated = self.ours().any(|it| it.place == Place::Boot && it.on_trial());
        if !(activated && remembered) {
            steps.push(Step::Remember(version()));
        }
        if !activated {
            steps.push(Step::Activate(version()));
        }
        // Before it is marked there is something else to start, so that no moment is without one.
        let wins = |it: &System| it.root.as_ref() == Some(self.running) && !it.is_bad();
        if self.wish.version < *running && self.disk.esp.systems.iter().any(wins) {
            steps.push(Step::Demote(running.clone()));
        }
        steps.push(Step::Reboot);
        steps
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look => f.write_str("see what the source has"),
            Self::Retire(slot) => write!(f, "remove what boots {slot} from the ESP"),
            Self::EmptySlot(slot) => write!(f, "take the name from {slot}"),
            Self::Fetch { slot, again: false } => write!(f, "fetch the release into {slot}"),
            Self::Fetch { slot, again: true } => write!(f, "go on fetching into {slot}"),
            Self::VerifySlot(slot) => write!(f, "read {slot} back"),
            Self::NameSlot(slot) => write!(f, "name {slot}"),
            Self::Stage(version) => write!(f, "stage the system of {version}"),
            Self::Remember(version) => {
                write!(f, "have it written down what the node is part of before {version}")
            }
            Self::Activate(version) => write!(f, "activate {version}"),
            Self::Demote(version) => write!(f, "have {version} started last"),
            Self::Reboot => f.write_str("reboot"),
        }
    }
}
