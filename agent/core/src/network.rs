//! The subject `network`: links, addresses, routes and sysctls of the core networks.
//!
//! Everything here is a pure function of what should be ([`Desired`]) and what the kernel shows
//! ([`Observed`]). The order of a plan is: removals, sysctls of the whole host, MTUs that shrink (upper links
//! first), links from the bottom up, addresses, routes. A plan ends where a later step would need the result
//! of an earlier one: an IPv4 address waits for its link's carrier and for the answer to an ARP probe.
//!
//! What the agent made carries its mark in the kernel itself (link group, address protocol, route protocol),
//! so that a restarted agent knows its own, and nobody else's things are ever removed.

mod addresses; // which addresses come and go, and which must be probed first
mod bond; // what differs between two bonds, and what must be down to change it
mod choose; // which NIC of the host a logical name means
mod desired; // what should be
mod links; // creating, stacking, sizing and removing links
mod observed; // what the kernel shows
mod routes; // which routes come and go
mod step; // the changes and how people read them
mod sysctls; // which kernel parameters are ours
#[cfg(test)]
mod tests;
mod view; // desired and observed seen together
#[cfg(test)]
pub(crate) mod world; // a small kernel for the property tests

pub use desired::{
    Bond, BondMode, Desired, Kind, LacpRate, Link, NicSelector, Route, XmitHashPolicy,
};
pub use observed::{
    Observed, ObservedAddress, ObservedBond, ObservedKind, ObservedLink, ObservedRoute, Probe,
};
pub use step::{BondOption, Hop, NewLink, Step};
pub use sysctls::sysctl_paths;

use crate::subject::{OnFailure, Plan, Subject};

/// Link group of links that the agent made or took over (`IFLA_GROUP`, "tr" in ASCII; 29810).
pub const LINK_GROUP: u32 = 0x7472;
/// Protocol of addresses that the agent added (`IFA_PROTO`).
pub const ADDRESS_PROTOCOL: u8 = 0x74;
/// Protocol of routes that the agent added (`rtm_protocol`); not assigned in the kernel's or FRR's lists.
pub const ROUTE_PROTOCOL: u8 = 0x74;

/// The subject.
#[derive(Debug, Clone, Copy)]
pub struct Network;

impl Subject for Network {
    const NAME: &'static str = "network";
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    /// One refused MTU must not keep every other link down.
    const ON_FAILURE: OnFailure = OnFailure::GoOn;

    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        let mut plan = Plan::default();
        let view = view::View::new(desired, observed, &mut plan.problems);
        routes::remove(&view, &mut plan.steps);
        addresses::remove(&view, &mut plan.steps);
        links::remove(&view, &mut plan);
        sysctls::host(&view, &mut plan.steps);
        links::shrink(&view, &mut plan.steps);
        links::build(&view, &mut plan);
        addresses::add(&view, &mut plan);
        routes::add(&view, &mut plan);
        plan
    }
}
