//! Which disk. What is not certain is refused: a wrong answer costs somebody's data.

use std::collections::BTreeMap;

use super::{Candidate, Desired, LEAST, System, Var};
use crate::config::{Disk, Transport};
use crate::disks::size;
use crate::status::{Problem, problem};

/// Words by which management controllers name the disks that they only pretend to be.
const PRETENDERS: [&str; 5] = ["virtual", "ilo", "idrac", "cimc", "lun 00 media"];

/// The disk that the node is installed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// The kernel's name.
    pub name: &'a str,
    /// What an installation has left on it; `None`: it is to be divided anew, whatever is on it.
    pub system: Option<&'a System>,
}

/// Which disks a rule of the cluster file means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted<'a> {
    /// The rule.
    pub(crate) disk: &'a Disk,
    /// Disks that are something else's.
    pub(crate) osds: &'a [Disk],
    /// The smallest that has room, in bytes.
    pub(crate) least: u64,
}

/// Why no disk is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In one sentence, with what helps.
    pub reason: String,
    /// Each disk by name, and why it is not the one.
    pub disks: Vec<(String, String)>,
}

/// The one disk that the rule means and that may be written to.
pub fn choose<'a>(
    desired: &Desired,
    disks: &'a BTreeMap<String, Candidate>,
) -> Result<Chosen<'a>, Refusal> {
    let wanted = Wanted { disk: &desired.disk, osds: &desired.osds, least: LEAST };
    let (name, system) = sole(wanted, disks, |disk| content(desired, disk))?;
    Ok(Chosen { name, system })
}

/// The one disk that is wanted, and what `content` says of what is on it, or why that must stay.
pub(crate) fn sole<'a, T>(
    wanted: Wanted<'_>,
    disks: &'a BTreeMap<String, Candidate>,
    content: impl Fn(&'a Candidate) -> Result<T, String>,
) -> Result<(&'a str, T), Refusal> {
    let verdicts: Vec<_> =
        disks.iter().map(|(name, disk)| (name, disk, unfit(wanted, disk))).collect();
    let fitting: Vec<_> = verdicts.iter().filter(|(_, _, unfit)| unfit.is_none()).collect();
    let list = || {
        let line = |(name, disk, unfit): &(&String, &Candidate, Option<String>)| {
            let word = unfit.clone().unwrap_or_else(|| "it fits".into());
            ((*name).clone(), format!("{}: {word}", about(disk)))
        };
        verdicts.iter().map(line).collect()
    };
    match fitting[..] {
        [] => Err(Refusal {
            reason: "no disk fits the rule; nothing is changed".into(),
            disks: list(),
        }),
        [&(name, disk, _)] => match content(disk) {
            Ok(content) => Ok((name, content)),
            Err(reason) => Err(Refusal {
                reason: format!("{name} fits the rule, and {reason}"),
                disks: list(),
            }),
        },
        [..] => {
            let names: Vec<_> = fitting.iter().map(|(name, _, _)| name.as_str()).collect();
            let (count, names) = (names.len(), names.join(", "));
            let help = "write a rule that only one fits, such as its serial";
            Err(Refusal {
                reason: format!("{count} disks fit the rule: {names}; {help}"),
                disks: list(),
            })
        }
    }
}

/// What a person knows a disk by.
fn about(disk: &Candidate) -> String {
    let block = &disk.block;
    let serial = block.serial.as_ref().map(|serial| format!("serial {serial}"));
    let parts = [Some(size(block.size)), block.model.clone(), serial];
    let signatures = disk.signatures.iter().cloned().collect::<Vec<_>>().join(" ");
    let signatures = if signatures.is_empty() { "blank".into() } else { signatures };
    let parts = parts.into_iter().flatten().chain([signatures]);
    parts.collect::<Vec<_>>().join(", ")
}

/// Why a disk is not meant, or can never be taken, whatever is on it.
pub(crate) fn unfit(wanted: Wanted<'_>, disk: &Candidate) -> Option<String> {
    let Wanted { disk: rule, osds, least } = wanted;
    let block = &disk.block;
    let osd = osds.iter().position(|osd| osd.fits(block));
    let by_usb = block.transport == Some(Transport::Usb);
    let meant = rule.names(block) || rule.transport == Some(Transport::Usb);
    let never = [
        (disk.booted, "the machine was started from it"),
        (disk.optical, "it is an optical drive"),
        (by_usb && pretends(disk), "it is a management controller's virtual disk"),
        (block.size == 0, "there is no medium in it"),
        (disk.read_only, "it is read-only"),
        (disk.removable && !meant, "its medium can be taken out, and the rule does not name it"),
    ];
    let never = never.into_iter().find(|(is, _)| *is).map(|(_, why)| why.to_owned());
    let misses = || {
        let misses = rule.misses(block);
        (!misses.is_empty()).then(|| misses.join("; "))
    };
    let osd = || osd.map(|number| format!("the rule osds[{number}] means it as well"));
    let small = || {
        (block.size < least).then(|| format!("it is smaller than {least} bytes, which are needed"))
    };
    never.or_else(misses).or_else(osd).or_else(small)
}

fn pretends(disk: &Candidate) -> bool {
    let words =
        [disk.vendor.as_deref(), disk.block.model.as_deref()].map(Option::unwrap_or_default);
    let words = words.join(" ").to_lowercase();
    PRETENDERS.iter().any(|word| words.contains(word))
}

/// What an installation has left on the disk; `None`: nothing, and it may be divided anew. Or why it is left alone.
fn content<'a>(desired: &Desired, disk: &'a Candidate) -> Result<Option<&'a System>, String> {
    let wipe = disk.block.is_among(&desired.wipe);
    let Some(system) = &disk.system else { return blank(disk, wipe).map(|()| None) };
    // What this medium has begun, it carries on.
    let here = Some(&desired.medium);
    let begun = system.installed_from.as_ref() == here;
    match &system.var {
        Var::Ours(medium) if wipe && !begun && medium.as_ref() != here => Ok(None),
        Var::Empty | Var::Ours(_) => Ok(Some(system)),
        Var::Others(_) | Var::Unreadable(_) if wipe => Ok(None),
        // The names of slots come before anything is written to /var: there is nothing to lose.
        Var::Unreadable(_) if system.layout.is_free() && system.installed_from.is_none() => {
            Ok(None)
        }
        Var::Others(whose) => Err(format!("{whose}; {}", help(disk))),
        Var::Unreadable(why) => Err(format!("its /var cannot be read ({why}); {}", help(disk))),
    }
}

/// Whether a disk with nothing of ours on it may be written to.
pub(crate) fn blank(disk: &Candidate, wipe: bool) -> Result<(), String> {
    if disk.signatures.is_empty() || wipe {
        return Ok(());
    }
    let found = disk.signatures.iter().cloned().collect::<Vec<_>>().join(", ");
    Err(format!("something is on it that is not of this node: {found}; {}", help(disk)))
}

impl Refusal {
    /// The reason, and then each disk's.
    pub(crate) fn problems(self, key: &str) -> Vec<Problem> {
        let Self { reason, disks } = self;
        let disks = disks.into_iter().map(|(name, reason)| problem(&name, reason));
        std::iter::once(problem(key, reason)).chain(disks).collect()
    }
}

/// What to write in the cluster file.
pub(crate) fn help(disk: &Candidate) -> String {
    match disk.block.serial.as_ref().or_else(|| disk.block.ids.first()) {
        Some(name) => format!("to destroy it, give the node `wipe: [{name:?}]`"),
        None => "it has neither a serial number nor a name by ID to wipe it by".into(),
    }
}
