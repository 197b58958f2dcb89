//! The OSDs: which disks the cluster file's rules name on this node, and what came of each.
//!
//! This subject writes one wish for each disk; the subject `services` starts a unit for each wish, which brings the
//! OSD up, and makes it first if the disk is blank (`/usr/lib/trilith/osd-activate`). A disk with anything else on
//! it is left alone, and is a problem here, unless the cluster file names it to be overwritten. An OSD of this cluster
//! is never overwritten: Ceph's map tells what was made on a disk ([`mark`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{Disk, DiskKind, Osd};
use crate::disks::Block;
use crate::status::{Details, Problem, problem};
use crate::subject::{OnFailure, Plan, Subject};

pub(crate) mod mark; // what Ceph's map knows a disk by
#[cfg(test)]
mod tests;

/// The wishes, one folder `disk-NAME` for each.
pub const FOLDER: &str = "/run/trilith/osds";

/// The OSDs that are activated, one folder `ceph-NUMBER` for each (`osd data`).
pub const ACTIVE: &str = "/var/lib/ceph/osd";

/// How the name of a wish's folder begins; the kernel's name of the disk follows.
pub const PREFIX: &str = "disk-";

/// The OSDs of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Osds;

/// Which disks carry OSDs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// The cluster's identity, a UUID (`fsid`).
    pub cluster: String,
    /// This node's ID.
    pub node: u16,
    /// The rules, in the order of the cluster file. A disk goes to the first that it fits.
    pub rules: Vec<Rule>,
    /// Which disk is the system's, or that of a diskless node's /var, and so nobody else's.
    #[serde(default)]
    pub system: Option<Disk>,
}

/// One rule for disks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Which disks.
    pub disk: Disk,
    /// So many disks must fit.
    pub count: usize,
    /// The CRUSH device class; `None`: Ceph's choice.
    pub class: Option<DiskKind>,
    /// Disks that need not be blank, by serial number or name by ID.
    pub overwrite: BTreeSet<String>,
    /// What the rule asks for and this agent cannot do yet.
    pub unable: Option<String>,
}

/// What the node shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observed {
    /// Every disk by the kernel's name, such as `sda`.
    pub disks: BTreeMap<String, Block>,
    /// The wishes that are written, by the disk's name.
    pub wishes: BTreeMap<String, Wish>,
    /// What came of them, by the disk's name: `osd NUMBER` or `foreign REASON`.
    pub outcomes: BTreeMap<String, String>,
    /// The state that the OSD on a disk says that it is in, by the disk's name: `active`, `booting`. One that does
    /// not answer is not there.
    pub states: BTreeMap<String, String>,
}

/// What the unit of one disk reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wish(pub String);

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take back the wish for a disk. Its OSD goes on: taking one out is a person's decision.
    Unwish(String),
    /// Wish for an OSD on a disk.
    Wish {
        /// The kernel's name of the disk.
        disk: String,
        /// What its unit reads.
        wish: Wish,
    },
}

impl Subject for Osds {
    const NAME: &'static str = "osds";
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    /// Each disk is for itself.
    const ON_FAILURE: OnFailure = OnFailure::GoOn;

    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        let mut plan = Plan::default();
        let wishes = choose(desired, observed, &mut plan.problems);
        let stale = observed.wishes.keys().filter(|disk| !wishes.contains_key(*disk));
        plan.steps.extend(stale.cloned().map(Step::Unwish));
        for (disk, wish) in wishes {
            plan.problems.extend(trouble(observed, &disk).map(|reason| problem(&disk, reason)));
            if observed.wishes.get(&disk) != Some(&wish) {
                plan.steps.push(Step::Wish { disk, wish });
            }
        }
        plan
    }

    fn details(_desired: &Desired, observed: &Observed) -> Details {
        let word = |(disk, outcome): (&String, &String)| {
            let state = observed.states.get(disk).map(|state| format!(", {state}"));
            (disk.clone(), format!("{outcome}{}", state.unwrap_or_default()))
        };
        Details { more: observed.outcomes.iter().map(word).collect(), ..Details::default() }
    }
}

/// The number of the OSD on a disk, if it carries one.
pub fn number<'a>(outcomes: &'a BTreeMap<String, String>, disk: &str) -> Option<&'a str> {
    outcomes.get(disk)?.strip_prefix("osd ")
}

/// What is wrong with a disk that a rule names.
fn trouble(observed: &Observed, disk: &str) -> Option<String> {
    if let Some(number) = number(&observed.outcomes, disk) {
        return match observed.states.get(disk).map(String::as_str) {
            Some("active") => None,
            Some(state) => Some(format!("its OSD {number} is {state}")),
            None => Some(format!("its OSD {number} does not answer")),
        };
    }
    match observed.outcomes.get(disk).and_then(|outcome| outcome.strip_prefix("foreign ")) {
        Some(reason) => Some(format!("{reason}; it is left alone")),
        None => Some("its OSD is not up yet".into()),
    }
}

/// The disks that the rules name, each with what its unit reads.
fn choose(
    desired: &Desired,
    observed: &Observed,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Wish> {
    let mut wishes = BTreeMap::new();
    for (number, rule) in desired.rules.iter().enumerate() {
        let object = format!("osds[{number}]");
        if let Some(unable) = &rule.unable {
            problems.push(problem(&object, format!("this release cannot do that yet: {unable}")));
            continue;
        }
        let free = observed.disks.iter().filter(|(name, disk)| {
            !wishes.contains_key(*name)
                && !desired.system.as_ref().is_some_and(|rule| rule.fits(disk))
        });
        let fitting: Vec<_> = free.filter(|(_, disk)| rule.disk.fits(disk)).collect();
        let clear = fitting.len() <= rule.count;
        if !clear {
            let names = fitting.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
            let names = names.join(", ");
            let reason =
                format!("{} disks fit, {} are asked for: {names}", fitting.len(), rule.count);
            problems.push(problem(&object, reason));
        }
        if fitting.len() < rule.count {
            let reason = format!("{} disks fit, {} are asked for", fitting.len(), rule.count);
            problems.push(problem(&object, reason));
        }
        wishes.extend(
            fitting
                .into_iter()
                .map(|(name, disk)| (name.clone(), rule.wish(desired, (name, disk), clear))),
        );
    }
    wishes
}

/// Where the disk is found: by a name that is its own, so that another disk which takes the place of this one before
/// it is written to is not written to.
fn device(name: &str, disk: &Block) -> String {
    disk.ids.first().map_or_else(|| format!("/dev/{name}"), |id| format!("/dev/disk/by-id/{id}"))
}

impl Rule {
    /// What a rule of the cluster file means.
    pub fn of(osd: &Osd) -> Self {
        let unable = match osd {
            Osd { encrypted: true, .. } => Some("encrypted".to_owned()),
            Osd { db: Some(_), .. } => Some("db".to_owned()),
            Osd { per_disk, .. } if per_disk.get() > 1 => Some("per_disk above 1".to_owned()),
            Osd { .. } => None,
        };
        Self {
            count: usize::from(osd.count.get()),
            class: osd.class,
            overwrite: osd.overwrite.iter().cloned().collect(),
            unable,
            disk: osd.disk.clone(),
        }
    }

    /// `make`: whether an OSD may be made on the disk if it is blank. Where more disks fit than are asked for, any choice
    /// would be another one after the next boot; what is on them already comes up all the same.
    fn wish(&self, desired: &Desired, (name, disk): (&String, &Block), make: bool) -> Wish {
        let class = self.class.map(|class| class.to_string()).unwrap_or_default();
        let make = if make { "yes" } else { "no" };
        let named = disk.is_among(&self.overwrite);
        let overwrite = if named { "OVERWRITE=yes\n" } else { "" };
        let (device, fsid) = (device(name, disk), &desired.cluster);
        let marks = mark::marks(desired, disk).join(" ");
        Wish(format!(
            "DEVICE={device}\nCLASS={class}\nFSID={fsid}\nMARKS=\"{marks}\"\nMAKE={make}\n{overwrite}"
        ))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwish(disk) => write!(f, "no OSD on {disk} is wished for any more"),
            Self::Wish { disk, wish } => {
                let class = wish.0.lines().find_map(|line| line.strip_prefix("CLASS="));
                match class.filter(|class| !class.is_empty()) {
                    Some(class) => write!(f, "wish for an OSD of class {class} on {disk}"),
                    None => write!(f, "wish for an OSD on {disk}"),
                }?;
                if wish.0.contains("OVERWRITE=yes") {
                    f.write_str(", over what is there")?;
                }
                Ok(())
            }
        }
    }
}
