//! The node's own boot entries. All of them lead to the boot loader on its disk, before all others: each time the firmware
//! comes back from a loader whose system it would not start, it goes on to the next entry, and the loader counts one try of
//! the failed system less, until it takes the old one. So there is one more than there are tries. Their names differ,
//! since some firmware removes what looks like a second of the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{LoadOption, Node, Partition};
use crate::boot::TRIES;
use crate::subject::{Plan, Subject};

/// The two places of the boot loader on a node's disk, in turns.
pub const LOADERS: [&str; 2] = ["\\EFI\\systemd\\systemd-bootx64.efi", "\\EFI\\BOOT\\BOOTX64.EFI"];

/// What the name of each own entry starts with; its number follows.
const NAME: &str = "Trilith ";

/// The boot entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entries;

/// Which own entries there are to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// The partition that they lead to: the disk's ESP.
    pub esp: Partition,
    /// Whether the next start, and only that, begins with them whatever the order says.
    #[serde(default)]
    pub next: bool,
}

/// What the firmware has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observed {
    /// Every entry by its number; without a content if it cannot be read.
    pub entries: BTreeMap<u16, Option<LoadOption>>,
    /// In which order they are tried (`BootOrder`).
    pub order: Vec<u16>,
    /// What the next start begins with (`BootNext`).
    pub next: Option<u16>,
}

/// One variable changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An entry is made, or made anew.
    Write(u16, LoadOption),
    /// The order.
    Order(Vec<u16>),
    /// What the next start begins with.
    Next(u16),
    /// An entry that leads nowhere any more, or is there twice, is removed.
    Remove(u16),
}

impl Subject for Entries {
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    const NAME: &'static str = "boot-entries";

    /// New entries first, removals last: whichever step is the last before a power cut, the order names entries that are
    /// there.
    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        let own = assign(&options(&desired.esp), observed);
        let written = own.iter().filter(|(number, option)| !is_there(observed, *number, option));
        let mut steps: Vec<Step> =
            written.map(|(number, option)| Step::Write(*number, option.clone())).collect();

        let numbers: Vec<u16> = own.iter().map(|(number, _)| *number).collect();
        let stale: Vec<u16> =
            own_numbers(observed).filter(|number| !numbers.contains(number)).collect();
        let order = order(&numbers, &stale, &observed.order);
        if order != observed.order {
            steps.push(Step::Order(order));
        }
        let first = numbers.first().copied().filter(|_| desired.next);
        steps.extend(first.filter(|first| observed.next != Some(*first)).map(Step::Next));
        steps.extend(stale.into_iter().map(Step::Remove));
        Plan { steps, problems: Vec::new() }
    }
}

/// The own entries as they should be.
fn options(esp: &Partition) -> Vec<LoadOption> {
    let numbers = 1..=TRIES + 1;
    let option = |(number, loader): (u32, &&str)| LoadOption {
        active: true,
        description: format!("{NAME}{number}"),
        path: vec![Node::Partition(esp.clone()), Node::File((*loader).to_owned())],
    };
    numbers.zip(LOADERS.iter().cycle()).map(option).collect()
}

/// A number for each: that of the entry that is as it should be, else of one with its name, else a free one.
fn assign(wanted: &[LoadOption], observed: &Observed) -> Vec<(u16, LoadOption)> {
    let mut taken: BTreeSet<u16> = BTreeSet::new();
    let mut own = Vec::new();
    for option in wanted {
        let mine = own_numbers(observed).filter(|number| !taken.contains(number));
        let named: Vec<u16> = mine.filter(|number| is_named(observed, *number, option)).collect();
        let right = named.iter().find(|number| is_there(observed, **number, option));
        let free =
            || (0..=u16::MAX).find(|it| !observed.entries.contains_key(it) && !taken.contains(it));
        // 65536 entries fit into no firmware.
        let Some(number) = right.or(named.first()).copied().or_else(free) else { continue };
        taken.insert(number);
        own.push((number, option.clone()));
    }
    own
}

fn is_named(observed: &Observed, number: u16, option: &LoadOption) -> bool {
    let found = observed.entries.get(&number).and_then(Option::as_ref);
    found.is_some_and(|found| found.description == option.description)
}

/// Whether the entry does what it should. Some firmware puts the way to the disk before the partition, and writes file names
/// in another case.
fn is_there(observed: &Observed, number: u16, option: &LoadOption) -> bool {
    let Some(Some(found)) = observed.entries.get(&number) else { return false };
    let same = found.active == option.active && found.description == option.description;
    same && leads(found) == leads(option)
}

/// The partition and the file that an entry leads to.
fn leads(option: &LoadOption) -> (Option<&Partition>, Option<String>) {
    let partition = option.path.iter().find_map(|node| match node {
        Node::Partition(partition) => Some(partition),
        Node::File(_) | Node::Optical | Node::Other { .. } => None,
    });
    let file = option.path.iter().find_map(|node| match node {
        Node::File(file) => Some(file.to_lowercase()),
        Node::Partition(_) | Node::Optical | Node::Other { .. } => None,
    });
    (partition, file)
}

/// The entries that a node has made, this one or one that had the machine before.
fn own_numbers(observed: &Observed) -> impl Iterator<Item = u16> {
    let is_own = |option: &LoadOption| {
        let number = option.description.strip_prefix(NAME);
        let numbered = number.is_some_and(|it| it.bytes().all(|digit| digit.is_ascii_digit()));
        let (_, file) = leads(option);
        let is_loader = |file: String| LOADERS.iter().any(|it| it.eq_ignore_ascii_case(&file));
        numbered && file.is_some_and(is_loader)
    };
    let entries = observed.entries.iter();
    entries
        .filter(move |(_, option)| option.as_ref().is_some_and(is_own))
        .map(|(number, _)| *number)
}

/// The own ones first, the others behind them as they were, each once.
fn order(own: &[u16], stale: &[u16], now: &[u16]) -> Vec<u16> {
    let mut order = own.to_vec();
    for number in now {
        if !order.contains(number) && !stale.contains(number) {
            order.push(*number);
        }
    }
    order
}

/// `Boot000A`: the variable of an entry.
pub fn variable(number: u16) -> String {
    format!("Boot{number:04X}")
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(number, option) => {
                let (partition, file) = leads(option);
                let partition = partition.map(|it| it.uuid.to_string()).unwrap_or_default();
                let (name, file) = (&option.description, file.unwrap_or_default());
                write!(f, "write {}: {name:?}, partition {partition}, {file}", variable(*number))
            }
            Self::Order(order) => {
                let order: Vec<String> = order.iter().map(|it| format!("{it:04X}")).collect();
                write!(f, "write BootOrder: {}", order.join(" "))
            }
            Self::Next(number) => write!(f, "write BootNext: {number:04X}"),
            Self::Remove(number) => write!(f, "remove {}", variable(*number)),
        }
    }
}
