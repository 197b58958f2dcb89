//! Which NIC of the host a logical name means.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::{Desired, Kind, NicSelector};
use super::observed::{Observed, ObservedKind, ObservedLink};
use crate::names::{IfName, MacAddr};
use crate::status::Problem;

/// The outcome of the choice.
#[derive(Debug, Default)]
pub(super) struct Choice<'a> {
    /// The kernel's name by the logical one.
    pub(super) names: BTreeMap<&'a IfName, IfName>,
    /// NICs that several links could mean. They keep what they have until somebody says which one is meant.
    pub(super) disputed: BTreeSet<IfName>,
}

/// Chooses a NIC for every logical one. What cannot be chosen becomes a problem that says what was seen.
pub(super) fn choose<'a>(
    desired: &'a Desired,
    observed: &Observed,
    problems: &mut Vec<Problem>,
) -> Choice<'a> {
    let mut choice = Choice::default();
    for (logical, link) in &desired.links {
        let Kind::Nic(selector) = &link.kind else { continue };
        match pick(selector, observed) {
            Ok(nic) => claim(logical, nic, &mut choice, problems),
            Err(matching) => {
                problems.push(Problem {
                    object: logical.to_string(),
                    reason: unclear(selector, &matching, observed),
                });
                choice.disputed.extend(matching.iter().map(|nic| nic.name.clone()));
            }
        }
    }
    choice
}

/// A NIC belongs to one logical name only.
fn claim<'a>(
    logical: &'a IfName,
    nic: &ObservedLink,
    choice: &mut Choice<'a>,
    problems: &mut Vec<Problem>,
) {
    match choice.names.iter().find(|(_, taken)| **taken == nic.name) {
        None => {
            choice.names.insert(logical, nic.name.clone());
        }
        Some((first, _)) => problems.push(Problem {
            object: logical.to_string(),
            reason: format!("it means the NIC {}, which is {first} already", nic.name),
        }),
    }
}

/// The one NIC that is meant, else all that could be.
fn pick<'o>(
    selector: &NicSelector,
    observed: &'o Observed,
) -> Result<&'o ObservedLink, Vec<&'o ObservedLink>> {
    let mut matching: Vec<_> =
        nics(observed).filter(|nic| matches(selector, nic, by_permanent)).collect();
    if matching.is_empty() {
        // A NIC whose MAC was set by hand, such as a virtual function: ports of a bond do not count, for
        // they all show the bond's.
        matching = nics(observed)
            .filter(|nic| nic.master.is_none() && matches(selector, nic, |nic| nic.mac))
            .collect();
    }
    match matching.as_slice() {
        [nic] => Ok(nic),
        _ => Err(matching),
    }
}

fn nics(observed: &Observed) -> impl Iterator<Item = &ObservedLink> {
    observed.links.iter().filter(|link| link.kind == ObservedKind::Nic)
}

fn by_permanent(nic: &ObservedLink) -> Option<MacAddr> {
    nic.permanent_mac.or(nic.mac)
}

fn matches(
    selector: &NicSelector,
    nic: &ObservedLink,
    mac_of: impl Fn(&ObservedLink) -> Option<MacAddr>,
) -> bool {
    let NicSelector { name, mac, pci, driver } = selector;
    let answers_to = |name: &IfName| {
        *name == nic.name || nic.alternative_names.iter().any(|other| other == name.as_str())
    };
    name.as_ref().is_none_or(answers_to)
        && mac.is_none_or(|mac| mac_of(nic) == Some(mac))
        && pci.as_ref().is_none_or(|pci| nic.pci.as_ref() == Some(pci))
        && driver.as_ref().is_none_or(|driver| nic.driver.as_ref() == Some(driver))
}

fn unclear(selector: &NicSelector, matching: &[&ObservedLink], observed: &Observed) -> String {
    if matching.is_empty() {
        let seen: Vec<_> = nics(observed).map(describe).collect();
        let seen = if seen.is_empty() { "none".into() } else { seen.join(", ") };
        format!("no NIC with {selector}; seen: {seen}")
    } else {
        let seen: Vec<_> = matching.iter().map(|nic| describe(nic)).collect();
        format!(
            "{} NICs with {selector}: {}; choose by MAC or PCI path instead",
            seen.len(),
            seen.join(", ")
        )
    }
}

/// A NIC as people can copy it into the cluster file.
fn describe(nic: &ObservedLink) -> String {
    let mut facts = Vec::new();
    facts.extend(by_permanent(nic).map(|mac| mac.to_string()));
    facts.extend(nic.pci.clone());
    facts.extend(nic.driver.clone());
    if facts.is_empty() {
        nic.name.to_string()
    } else {
        format!("{} ({})", nic.name, facts.join(" "))
    }
}
