//! Which addresses come and go, and which must be probed first.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::desired::{Kind, Link};
use super::links::fallen;
use super::observed::{ObservedAddress, ObservedLink};
use super::step::Step;
use super::view::View;
use crate::names::IfName;
use crate::status::Problem;
use crate::subject::Plan;

/// How long an IPv6 address that somebody else had stays as a sign of that before it is tried again, in
/// seconds.
const DAD_RETRY: u64 = 30;

/// Removes the agent's own addresses that are not wanted where they are.
pub(super) fn remove(view: &View, steps: &mut Vec<Step>) {
    let doomed: BTreeSet<_> = view.doomed().map(|link| &link.name).collect();
    for seen in view.observed.addresses.iter().filter(|seen| seen.is_owned()) {
        let wanted = view
            .logical(&seen.link)
            .is_some_and(|(_, link)| link.addresses.contains(&seen.address));
        let gone = doomed.contains(&seen.link) || view.is_left_alone(&seen.link);
        if !wanted && !gone {
            steps.push(Step::RemoveAddress { link: seen.link.clone(), address: seen.address });
        }
    }
}

/// Adds what is missing. IPv6 goes first, so that the kernel's search for duplicates and the ARP probes run
/// at the same time.
pub(super) fn add(view: &View, plan: &mut Plan<Step>) {
    let mut later = Vec::new();
    for (logical, link) in view.bottom_up() {
        let Some(kernel) = view.kernel_name(logical) else { continue };
        for address in &link.addresses {
            match address {
                IpNet::V6(_) => add_v6(view, kernel, *address, plan),
                IpNet::V4(_) => later.push((Target { logical, link, kernel }, *address)),
            }
        }
    }
    let mut unknown = Vec::new();
    for (target, address) in later {
        add_v4(view, target, address, &mut unknown, plan);
    }
    if !unknown.is_empty() {
        plan.steps.push(Step::Probe(unknown));
    }
}

/// A desired link that an address belongs to.
#[derive(Clone, Copy)]
struct Target<'a> {
    logical: &'a IfName,
    link: &'a Link,
    kernel: &'a IfName,
}

fn add_v4(
    view: &View,
    target: Target,
    address: IpNet,
    unknown: &mut Vec<(IfName, Ipv4Addr)>,
    plan: &mut Plan<Step>,
) {
    let IpNet::V4(v4) = address else { return };
    let (kernel, ip) = (target.kernel, v4.addr());
    if find(view, kernel, &address, plan).is_some() {
        return;
    }
    match may_add(view, target, ip) {
        Verdict::Add => plan.steps.push(Step::AddAddress { link: kernel.clone(), address }),
        Verdict::Ask => unknown.push((kernel.clone(), ip)),
        Verdict::Later => {}
        Verdict::No(reason) => {
            plan.problems.push(Problem { object: format!("{ip} on {kernel}"), reason });
        }
    }
}

/// The same address on the same link, whoever added it. With another prefix length by somebody else it is in
/// the way, and a problem.
fn find<'a>(
    view: &View<'a>,
    kernel: &IfName,
    address: &IpNet,
    plan: &mut Plan<Step>,
) -> Option<&'a ObservedAddress> {
    let same_ip =
        |seen: &&ObservedAddress| seen.link == *kernel && seen.address.addr() == address.addr();
    let mut there = view.observed.addresses.iter().filter(same_ip);
    let other = there.clone().find(|seen| seen.address != *address && !seen.is_owned());
    if let Some(other) = other {
        let reason = format!("somebody added it as {}, which is not managed", other.address);
        plan.problems.push(Problem { object: format!("{address} on {kernel}"), reason });
        return Some(other);
    }
    // A link that is made anew has lost its addresses, one that was down the IPv6 ones.
    view.logical(kernel)?;
    let lost = matches!(address, IpNet::V6(_)) && fallen(view, &plan.steps).contains(kernel);
    there.find(|seen| seen.address == *address && !lost)
}

fn add_v6(view: &View, kernel: &IfName, address: IpNet, plan: &mut Plan<Step>) {
    let add = Step::AddAddress { link: kernel.clone(), address };
    let Some(seen) = find(view, kernel, &address, plan) else {
        plan.steps.push(add);
        return;
    };
    let reason = if seen.dad_failed {
        if seen.is_owned() && seen.age >= DAD_RETRY {
            plan.steps.extend([Step::RemoveAddress { link: kernel.clone(), address }, add]);
        }
        "somebody else on the link has it (duplicate address detection)"
    } else if seen.tentative && view.find(kernel).is_some_and(|link| !link.carrier) {
        "waits for carrier"
    } else if seen.tentative {
        "the kernel is still asking whether anybody else has it"
    } else {
        return;
    };
    let object = format!("{} on {kernel}", address.addr());
    plan.problems.push(Problem { object, reason: reason.into() });
}

/// What to do about a missing IPv4 address.
enum Verdict {
    /// Nobody has it.
    Add,
    /// Ask who has it.
    Ask,
    /// The link is only being made or set up: the plan ends here for it.
    Later,
    /// It cannot be added, for this reason.
    No(String),
}

fn may_add(view: &View, target: Target, ip: Ipv4Addr) -> Verdict {
    let Target { logical, kernel, .. } = target;
    if is_held(view, target, ip) || nobody_to_ask(view, target) {
        return Verdict::Add;
    }
    let Some(seen) = view.seen(logical).filter(|seen| seen.up) else { return Verdict::Later };
    if !seen.carrier {
        return Verdict::No("waits for carrier".into());
    }
    match view.observed.probes.iter().find(|probe| probe.link == *kernel && probe.address == ip) {
        None => Verdict::Ask,
        Some(probe) => match probe.holder {
            None => Verdict::Add,
            Some(mac) => Verdict::No(format!("{mac} on the link has it already")),
        },
    }
}

/// The agent has this address on the same wire now, with another prefix length or on the other one of a port
/// and its master: nobody else can have it, and moving it should leave no gap.
fn is_held(view: &View, target: Target, ip: Ipv4Addr) -> bool {
    let same_wire = |holder: &IfName| {
        let up = view.ports(target.logical).any(|(port, _)| view.kernel_name(port) == Some(holder));
        let now = view.seen(target.logical);
        let down = now.is_some_and(|now| now.master.as_ref() == Some(holder));
        up || down || (holder == target.kernel && now.is_some())
    };
    let held = |seen: &ObservedAddress| seen.is_owned() && seen.address.addr() == ip;
    view.observed.addresses.iter().any(|seen| held(seen) && same_wire(&seen.link))
}

/// A bridge without ports never has carrier, and nobody on it can answer.
fn nobody_to_ask(view: &View, target: Target) -> bool {
    let Target { logical, link, kernel } = target;
    let has_port = |seen: &ObservedLink| seen.master.as_ref() == Some(kernel);
    link.kind == Kind::Bridge
        && view.ports(logical).next().is_none()
        && !view.observed.links.iter().any(has_port)
}
