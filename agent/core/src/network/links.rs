//! Creating, stacking, sizing and removing links.
//!
//! The orders that the kernel asks for: a port must be down to enter a bond; some bond parameters need the
//! bond down or without ports; a VLAN's MTU is at most its parent's, so MTUs grow from the bottom up and
//! shrink from the top down; a bond gives its MTU to its ports.

use std::collections::BTreeSet;

use super::bond;
use super::desired::{Kind, Link};
use super::observed::{ObservedKind, ObservedLink};
use super::step::{NewLink, Step};
use super::sysctls;
use super::view::View;
use crate::names::IfName;
use crate::status::Problem;
use crate::subject::Plan;

/// Removes the agent's own links that are not wanted any more, upper ones first, and gives NICs back.
pub(super) fn remove(view: &View, plan: &mut Plan<Step>) {
    let Plan { steps, problems } = plan;
    let mut doomed: Vec<_> = view.doomed().collect();
    doomed.sort_by_key(|link| std::cmp::Reverse(height(view, link, 0)));
    steps.extend(doomed.into_iter().map(|link| Step::DeleteLink(link.name.clone())));
    for seen in &view.observed.links {
        let wanted = view.logical(&seen.name).is_some() || view.is_left_alone(&seen.name);
        if seen.kind == ObservedKind::Nic && seen.is_owned() && !wanted {
            steps.push(Step::ReleaseLink(seen.name.clone()));
        }
        let stuck = !wanted && seen.kind != ObservedKind::Nic && seen.is_owned();
        if let Some(reason) = view.may_delete(seen).err().filter(|_| stuck) {
            let reason = format!("no longer configured, but cannot be removed: {reason}");
            problems.push(Problem { object: seen.name.to_string(), reason });
        }
    }
}

/// How many VLANs lie below a link. The kernel removes a VLAN with its parent; taking it first keeps every
/// step of the plan true.
fn height(view: &View, link: &ObservedLink, depth: usize) -> usize {
    match &link.kind {
        ObservedKind::Vlan { parent: Some(parent), .. } if depth < view.observed.links.len() => {
            1 + view.find(parent).map_or(0, |parent| height(view, parent, depth + 1))
        }
        ObservedKind::Vlan { .. }
        | ObservedKind::Nic
        | ObservedKind::Bond(_)
        | ObservedKind::Bridge
        | ObservedKind::Other(_) => 0,
    }
}

/// Lowers MTUs, upper links first.
pub(super) fn shrink(view: &View, steps: &mut Vec<Step>) {
    for (logical, link) in view.bottom_up().rev() {
        let Some(seen) = view.seen(logical) else { continue };
        let mtu = u32::from(link.mtu);
        if view.bond_of(link).is_none() && seen.mtu > mtu {
            steps.push(Step::SetMtu { link: seen.name.clone(), mtu });
        }
    }
}

/// Makes, marks, stacks, raises and sets up links from the bottom up.
pub(super) fn build(view: &View, plan: &mut Plan<Step>) {
    for (logical, link) in view.bottom_up() {
        let Some(kernel) = view.kernel_name(logical) else { continue };
        if let Some(seen) = view.seen(logical) {
            adjust(view, link, seen, plan);
        } else {
            plan.steps.extend(create(view, kernel, link));
            sysctls::link(view, kernel, link, &mut plan.steps);
        }
        stack(view, logical, kernel, link, &mut plan.steps);
        set_up(view, logical, link, &mut plan.steps);
    }
    carriers(view, &mut plan.problems);
}

fn create(view: &View, kernel: &IfName, link: &Link) -> Option<Step> {
    let kind = match &link.kind {
        Kind::Nic(_) => return None,
        Kind::Bond(bond) => NewLink::Bond(bond.clone()),
        Kind::Bridge => NewLink::Bridge,
        Kind::Vlan { parent, id } => {
            NewLink::Vlan { parent: view.kernel_name(parent)?.clone(), id: *id }
        }
    };
    Some(Step::CreateLink { name: kernel.clone(), kind, mtu: link.mtu.into() })
}

/// What a link that is there needs by itself: the mark, its place, parameters, MTU.
fn adjust(view: &View, link: &Link, seen: &ObservedLink, plan: &mut Plan<Step>) {
    if !seen.is_owned() {
        plan.steps.push(Step::MarkLink(seen.name.clone()));
    }
    if link.master.is_none() && current_master(view, seen).is_some() {
        plan.steps.push(Step::SetMaster { port: seen.name.clone(), master: None });
    }
    sysctls::link(view, &seen.name, link, &mut plan.steps);
    let mtu = u32::from(link.mtu);
    if view.bond_of(link).is_some() {
        port_mtu(view, link, seen, &mut plan.steps);
    } else if let Some(max) = seen.max_mtu.filter(|max| *max < mtu) {
        let reason = format!("its driver takes an MTU of at most {max}, not {mtu}");
        plan.problems.push(Problem { object: seen.name.to_string(), reason });
    } else if seen.mtu < mtu {
        plan.steps.push(Step::SetMtu { link: seen.name.clone(), mtu });
    }
}

/// The bond or bridge that a link is a port of when the removals are done.
fn current_master<'a>(view: &View<'a>, seen: &'a ObservedLink) -> Option<&'a IfName> {
    let master = seen.master.as_ref()?;
    view.doomed().all(|doomed| doomed.name != *master).then_some(master)
}

/// A port gets its bond's MTU when it enters and when the bond's changes. It differs only if somebody set it.
fn port_mtu(view: &View, link: &Link, seen: &ObservedLink, steps: &mut Vec<Step>) {
    let Some((bond, want)) = link.master.as_ref().zip(view.bond_of(link)) else { return };
    let mtu = u32::from(want.mtu);
    let settled = view.seen(bond).is_some_and(|bond| bond.mtu == mtu);
    if settled && seen.master.as_ref() == Some(bond) && seen.mtu != mtu {
        steps.push(Step::SetMtu { link: seen.name.clone(), mtu });
    }
}

/// What a bond or bridge needs once all its ports are there.
fn stack(view: &View, logical: &IfName, kernel: &IfName, link: &Link, steps: &mut Vec<Step>) {
    match &link.kind {
        Kind::Nic(_) | Kind::Vlan { .. } => {}
        Kind::Bond(want) => bond::shape(view, logical, kernel, want, steps),
        Kind::Bridge => {
            for (port, _) in view.ports(logical) {
                let Some(port_kernel) = view.kernel_name(port) else { continue };
                if !is_port(view, port, logical) {
                    let (port, master) = (port_kernel.clone(), Some(kernel.clone()));
                    steps.push(Step::SetMaster { port, master });
                }
            }
        }
    }
}

/// Whether a link is a port of this master already and both stay.
pub(super) fn is_port(view: &View, port: &IfName, master: &IfName) -> bool {
    view.seen(master).is_some()
        && view.seen(port).is_some_and(|seen| seen.master.as_ref() == Some(master))
}

/// A bond sets its ports up when they enter, and down when they leave; a new link is made up.
fn set_up(view: &View, logical: &IfName, link: &Link, steps: &mut Vec<Step>) {
    let Some(seen) = view.seen(logical) else { return };
    let enters = |master| view.bond_of(link).is_some() && !is_port(view, logical, master);
    if link.master.as_ref().is_some_and(enters) {
        return;
    }
    let leaves = seen.master.as_ref().filter(|now| link.master.as_ref() != Some(*now));
    let from_bond = leaves.and_then(|now| view.find(now));
    let falls = from_bond.is_some_and(|bond| matches!(bond.kind, ObservedKind::Bond(_)));
    if !seen.up || falls {
        steps.push(Step::SetUp(seen.name.clone()));
    }
}

/// Links that these steps set down and up again, with the VLANs on them: they lose their IPv6 addresses and
/// all their routes on the way.
pub(super) fn fallen<'a>(view: &View<'a>, steps: &[Step]) -> BTreeSet<&'a IfName> {
    let set_down = |link: &ObservedLink| {
        steps.iter().any(|step| matches!(step, Step::SetDown(name) if *name == link.name))
    };
    let mut fallen = BTreeSet::new();
    let mut links: Vec<_> = view.observed.links.iter().collect();
    links.sort_by_key(|link| height(view, link, 0));
    for link in links {
        let with_parent = matches!(&link.kind,
            ObservedKind::Vlan { parent: Some(parent), .. } if fallen.contains(parent));
        if with_parent || set_down(link) {
            fallen.insert(&link.name);
        }
    }
    fallen
}

/// Links that are up without carrier although nothing below them explains it.
fn carriers(view: &View, problems: &mut Vec<Problem>) {
    for (logical, link) in view.bottom_up() {
        let Some(seen) = view.seen(logical).filter(|seen| seen.up && !seen.carrier) else {
            continue;
        };
        let reason = match &link.kind {
            Kind::Nic(_) => "no carrier: is the cable plugged in and the switch port on?",
            Kind::Bond(_) if port_has_carrier(view, &seen.name) => {
                "no carrier although a port has: does the switch have the same bond?"
            }
            Kind::Bridge if port_has_carrier(view, &seen.name) => "no carrier although a port has",
            Kind::Vlan { parent, .. } if view.seen(parent).is_some_and(|parent| parent.carrier) => {
                "no carrier although the link below has"
            }
            // What lies below says why. A bridge without ports needs none.
            Kind::Bond(_) | Kind::Bridge | Kind::Vlan { .. } => continue,
        };
        problems.push(Problem { object: seen.name.to_string(), reason: reason.into() });
    }
}

fn port_has_carrier(view: &View, master: &IfName) -> bool {
    view.observed.links.iter().any(|link| link.master.as_ref() == Some(master) && link.carrier)
}
