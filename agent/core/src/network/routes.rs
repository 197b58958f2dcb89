//! Which routes come and go.

use std::net::IpAddr;

use ipnet::IpNet;

use super::desired::Route;
use super::links::fallen;
use super::observed::{ObservedAddress, ObservedRoute};
use super::step::{Hop, Step};
use super::view::View;
use crate::names::IfName;
use crate::status::Problem;
use crate::subject::Plan;

/// The metric of an IPv6 route that names none (`IP6_RT_PRIO_USER` in `include/net/ip6_route.h`).
const IPV6_METRIC: u32 = 1024;

/// Removes the agent's own routes that are not wanted. One that another takes the place of stays until then.
pub(super) fn remove(view: &View, steps: &mut Vec<Step>) {
    let wanted: Vec<_> = view.desired.routes.iter().filter_map(|route| hop(view, route)).collect();
    for seen in view.observed.routes.iter().filter(|seen| seen.is_owned()) {
        let kept = wanted.iter().any(|hop| same_place(hop, seen));
        let goes_with_its_link = view.doomed().any(|link| link.name == seen.link);
        if !kept && !goes_with_its_link && !view.is_left_alone(&seen.link) {
            steps.push(Step::RemoveRoute(Hop {
                destination: seen.destination,
                gateway: seen.gateway,
                link: seen.link.clone(),
                metric: seen.metric,
                mtu: seen.mtu,
            }));
        }
    }
}

/// Adds what is missing and can be reached.
pub(super) fn add(view: &View, plan: &mut Plan<Step>) {
    let fallen = fallen(view, &plan.steps);
    for route in &view.desired.routes {
        let Some(hop) = hop(view, route) else { continue };
        let there = view.observed.routes.iter().filter(|seen| same_place(&hop, seen));
        let there: Vec<_> = there.filter(|seen| !fallen.contains(&seen.link)).collect();
        if there.iter().any(|seen| is_same(&hop, seen)) || !reaches(view, &hop, plan) {
            continue;
        }
        if there.iter().any(|seen| seen.is_owned()) {
            plan.steps.push(Step::ReplaceRoute(hop));
        } else if let Some(other) = there.first() {
            let reason = format!(
                "a route that is not managed (protocol {}, link {}) leads there already",
                other.protocol, other.link
            );
            plan.problems.push(Problem { object: format!("route {hop}"), reason });
        } else {
            plan.steps.push(Step::AddRoute(hop));
        }
    }
}

/// The route in the kernel's words, `None` if its link cannot be there.
fn hop(view: &View, route: &Route) -> Option<Hop> {
    let Route { destination, gateway, link, metric, mtu } = route;
    let default = if matches!(destination, IpNet::V6(_)) { IPV6_METRIC } else { 0 };
    Some(Hop {
        destination: *destination,
        gateway: *gateway,
        link: view.kernel_name(link)?.clone(),
        metric: metric.unwrap_or(default),
        mtu: mtu.map(u32::from),
    })
}

/// The kernel keeps one route per destination and metric.
fn same_place(hop: &Hop, seen: &ObservedRoute) -> bool {
    seen.destination == hop.destination && seen.metric == hop.metric
}

fn is_same(hop: &Hop, seen: &ObservedRoute) -> bool {
    let ObservedRoute {
        destination: _,
        metric: _,
        gateway,
        link,
        mtu,
        protocol: _, /* whose it is */
    } = seen;
    same_place(hop, seen) && *gateway == hop.gateway && *link == hop.link && *mtu == hop.mtu
}

/// Whether the next hop, or the destination itself, lies in a subnet of the link, by an address that is there or comes in this plan. If
/// none does, the address has a problem or a probe to wait for, and the route needs no words of its own,
/// unless no address is to come that could help.
fn reaches(view: &View, hop: &Hop, plan: &mut Plan<Step>) -> bool {
    let gateway = hop.gateway.unwrap_or(hop.destination.network());
    // A link-local neighbour is on the link whatever its subnets are.
    if matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return true;
    }
    let covers = |link: &IfName, address: &IpNet| *link == hop.link && address.contains(&gateway);
    let stays = |seen: &ObservedAddress| {
        covers(&seen.link, &seen.address)
            && view.logical(&seen.link).is_some()
            && !plan.steps.iter().any(|step| is_removal(step, seen))
    };
    let comes = |step: &Step| match step {
        Step::AddAddress { link, address } => covers(link, address),
        _ => false,
    };
    if view.observed.addresses.iter().any(stays) || plan.steps.iter().any(comes) {
        return true;
    }
    let hopeful = view.bottom_up().any(|(logical, link)| {
        view.kernel_name(logical) == Some(&hop.link)
            && link.addresses.iter().any(|address| address.contains(&gateway))
    });
    if !hopeful {
        let reason = format!("{gateway} is in no subnet of {}", hop.link);
        plan.problems.push(Problem { object: format!("route {hop}"), reason });
    }
    false
}

fn is_removal(step: &Step, seen: &ObservedAddress) -> bool {
    matches!(step, Step::RemoveAddress { link, address } if *link == seen.link && *address == seen.address)
}
