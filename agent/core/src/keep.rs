//! The /var of a node that is not installed: it starts from a medium or from the network each time, and keeps on a disk
//! what it writes, if the cluster file names one for that (`nodes[].var_disk`). There is one partition on that disk, of a
//! label that no other has.
//!
//! A netboot server hands a bundle out once. So a node that was started from the network without one takes the disk that
//! was made for it, if there is exactly one such disk in the machine: the bundle that is kept on it says the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::boot::VAR_TYPE;
use crate::bundle::Bundle;
use crate::config::Disk;
use crate::install::{Candidate, Part, Var, Wanted, blank, help, sole, unfit};
use crate::status::{Problem, problem};
use crate::subject::{OnFailure, Plan, Subject};

#[cfg(test)]
mod tests;

/// The label of the partition, which tells it from the /var of an installed disk, whose type it has.
pub const LABEL: &str = "trilith-kept-var";

/// The smallest disk that has room, in bytes: what overlays/initrd asks for, and what the two tables take.
pub const LEAST: u64 = (4 << 30) + (2 << 20);

/// The /var of a node that is not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep;

/// Which disk is to be /var.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// None: /var is memory.
    Memory,
    /// The one that the node's bundle means.
    Rule(Box<Rule>),
    /// The one that was made for that: there is no bundle.
    Kept,
}

/// What a bundle says of the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Which disk.
    pub disk: Disk,
    /// Disks that are something else's.
    pub osds: Vec<Disk>,
    /// Disks that need not be blank, by serial number or name by ID.
    pub wipe: BTreeSet<String>,
    /// Whether the bundle came over the network in this boot, so that it is to be put where the next one finds it.
    pub handed_out: bool,
}

/// What the machine shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observed {
    /// Every disk by the kernel's name.
    pub disks: BTreeMap<String, Candidate>,
}

/// A /var that is alone on its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Its partition.
    pub part: Part,
    /// What it says; `None`: there is no bundle by which it could be judged. [`Var::Ours`] has the names by which the disk
    /// was wiped for it, as [`Rule::wiped`] gives them.
    #[serde(default)]
    pub var: Option<Var>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the one partition, over whatever is on the disk.
    Make(String),
    /// Put onto it who the node is.
    WriteState {
        /// Which disk.
        disk: String,
        /// By which names it was wiped for that, as [`Rule::wiped`] gives them.
        wiped: String,
        /// Whether the bundle is put there as well. One that lies on the medium does not: the agent keeps it, encrypted.
        bundle: bool,
    },
    /// Let it take all of the disk, check it, and mount it.
    Mount(String),
}

/// What became of it: what the initrd tells the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// /var is memory, and why, if it was to be on a disk.
    Memory(Vec<Problem>),
    /// /var is on this disk, by the kernel's name.
    Disk(String),
}

impl Outcome {
    /// Reads what the initrd wrote.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    /// As it is written.
    pub fn yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }

    /// The same in the light of the bundle that counts in the end: `names_disk` if that names a disk for /var. One that is
    /// sealed to a TPM, or comes later, could not be read in the initrd.
    #[must_use]
    pub fn judged(self, names_disk: bool) -> Self {
        match self {
            Self::Memory(problems) if problems.is_empty() && names_disk => {
                let reason =
                    "the bundle that names the disk could not be read when the node started";
                Self::Memory(vec![problem("var_disk", reason.into())])
            }
            other => other,
        }
    }

    /// For people, what that means; `fetched`: the machine was started from the network.
    pub fn text(&self, fetched: bool) -> String {
        let from = if fetched { "the network" } else { "a medium" };
        let mut text = match self {
            Self::Memory(_) => format!(
                "started from {from}: all that this node writes is kept in memory, and lost when it stops"
            ),
            Self::Disk(disk) => {
                format!("started from {from}: what this node writes is kept on {disk}")
            }
        };
        if let (Self::Memory(problems), Some(Problem { reason, .. })) = (self, self.problem()) {
            let disks = problems.iter().skip(1).map(|disk| format!("\n  {disk}"));
            text.push_str("\n/var ");
            text.push_str(&reason);
            text.extend(disks);
        }
        text
    }

    /// Why /var is not on a disk, if it was to be, in one sentence.
    pub fn problem(&self) -> Option<Problem> {
        let Self::Memory(problems) = self else { return None };
        Some(problem("/var", format!("is in memory: {}", problems.first()?)))
    }
}

impl Desired {
    /// What a bundle asks for. `handed_out`: it came over the network in this boot.
    pub fn of(bundle: &Bundle, handed_out: bool) -> Self {
        let Some(node) = bundle.config.node(bundle.node) else { return Self::Memory };
        let Some(disk) = node.var_disk.clone() else { return Self::Memory };
        let osds = node.osds.iter().map(|osd| osd.disk.clone()).collect();
        let wipe = node.wipe.iter().cloned().collect();
        Self::Rule(Box::new(Rule { disk, osds, wipe, handed_out }))
    }

    /// Whether it matters what is on a disk. No others are read: one that is broken takes minutes to say so.
    pub fn asks_what_is_on(&self, disk: &Candidate) -> bool {
        matches!(self, Self::Rule(rule) if unfit(rule.wanted(), disk).is_none())
    }

    /// Whether disks that are still to come could change nothing. A disk that fits and comes as the second does: nobody
    /// can wait for it.
    pub fn is_decided(&self, observed: &Observed) -> bool {
        let mut disks = observed.disks.values();
        match self {
            Self::Memory => true,
            Self::Rule(rule) => disks.any(|disk| unfit(rule.wanted(), disk).is_none()),
            Self::Kept => disks.any(|disk| disk.kept.is_some()),
        }
    }
}

impl Rule {
    fn wanted(&self) -> Wanted<'_> {
        Wanted { disk: &self.disk, osds: &self.osds, least: LEAST }
    }

    /// Those of `wipe` that name the disk. The disk remembers them: so `wipe`, which stays in the cluster file, wipes once,
    /// whatever the node is started from next.
    fn wiped(&self, disk: &Candidate) -> String {
        let names = self.wipe.iter().filter(|name| disk.block.is_among([*name]));
        names.cloned().collect::<Vec<_>>().join(" ")
    }

    /// The /var on a disk; `None`: it is to be made anew, whatever is there. Or why the disk is left alone.
    fn content<'a>(&self, disk: &'a Candidate) -> Result<Option<&'a Var>, String> {
        let wiped = self.wiped(disk);
        let wipe = !wiped.is_empty();
        let var = disk.kept.as_ref().map(|kept| kept.var.as_ref().unwrap_or(&Var::Empty));
        match var {
            None => blank(disk, wipe).map(|()| None),
            Some(Var::Ours(before)) if wipe && before.as_deref().unwrap_or_default().is_empty() => {
                Ok(None)
            }
            Some(var @ (Var::Empty | Var::Ours(_))) => Ok(Some(var)),
            Some(Var::Others(_) | Var::Unreadable(_)) if wipe => Ok(None),
            Some(Var::Others(whose)) => Err(format!("{whose}; {}", help(disk))),
            Some(Var::Unreadable(why)) => {
                Err(format!("its /var cannot be read ({why}); {}", help(disk)))
            }
        }
    }

    fn steps(&self, observed: &Observed) -> Result<Vec<Step>, Vec<Problem>> {
        let disks = &observed.disks;
        let refused = |refusal: crate::install::Refusal| refusal.problems("var_disk");
        let (name, var) = sole(self.wanted(), disks, |disk| self.content(disk)).map_err(refused)?;
        let wiped = self.wiped(&disks[name]);
        let disk = || name.to_owned();
        let ours = Var::Ours(Some(wiped.clone()));
        match var {
            None => match another(disks, name) {
                Some(other) => {
                    let reason = format!(
                        "the rule means {name}, and this node's /var is on {other}; take {other} out, or erase it"
                    );
                    Err(vec![problem("var_disk", reason)])
                }
                None => Ok(vec![Step::Make(disk())]),
            },
            Some(var) if self.handed_out || *var != ours => {
                let state = Step::WriteState { disk: disk(), wiped, bundle: self.handed_out };
                Ok(vec![state, Step::Mount(disk())])
            }
            Some(_) => Ok(vec![Step::Mount(disk())]),
        }
    }
}

/// Another disk with the node's own /var: with two of them nobody knows which is the right one.
fn another<'a>(disks: &'a BTreeMap<String, Candidate>, name: &str) -> Option<&'a String> {
    let ours = |disk: &Candidate| {
        let var = disk.kept.as_ref().and_then(|kept| kept.var.as_ref());
        matches!(var, Some(Var::Ours(_)))
    };
    disks.iter().find(|(other, disk)| *other != name && ours(disk)).map(|(other, _)| other)
}

/// The one disk that was made for it.
fn sole_kept(observed: &Observed) -> Result<Vec<Step>, Vec<Problem>> {
    let kept = observed.disks.iter().filter(|(_, disk)| disk.kept.is_some());
    let names: Vec<&str> = kept.map(|(name, _)| name.as_str()).collect();
    match names[..] {
        [] => Ok(Vec::new()),
        [name] => Ok(vec![Step::Mount(name.to_owned())]),
        [..] => {
            let (count, names) = (names.len(), names.join(", "));
            let reason = format!(
                "{count} disks hold the /var of a node: {names}; take out all but one, or have the node's bundle handed \
                 out again (`trilith netboot --again`)"
            );
            Err(vec![problem("var_disk", reason)])
        }
    }
}

impl Kept {
    /// What these partitions of a disk are. `None`: not a /var alone.
    pub fn of(parts: &[Part]) -> Option<Self> {
        let [part] = parts else { return None };
        let is_it = part.kind == VAR_TYPE && part.label == LABEL;
        is_it.then(|| Self { part: part.clone(), var: None })
    }
}

impl Subject for Keep {
    const NAME: &'static str = "keep";
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    /// Each step stands on the one before.
    const ON_FAILURE: OnFailure = OnFailure::Stop;

    /// Without steps, /var is memory.
    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        let steps = match desired {
            Desired::Memory => Ok(Vec::new()),
            Desired::Rule(rule) => rule.steps(observed),
            Desired::Kept => sole_kept(observed),
        };
        match steps {
            Ok(steps) => Plan { steps, ..Plan::default() },
            Err(problems) => Plan { problems, ..Plan::default() },
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make(disk) => write!(f, "make /var on {disk}"),
            Self::WriteState { disk, wiped, bundle } => {
                let bundle = if *bundle { ", and its bundle," } else { "" };
                write!(f, "write who the node is{bundle} to {disk}")?;
                if wiped.is_empty() { Ok(()) } else { write!(f, ", which was wiped as {wiped}") }
            }
            Self::Mount(disk) => write!(f, "mount /var from {disk}"),
        }
    }
}
