//! Which kernel parameters are ours. The agent is their only owner: no file of sysctl.d sets them.

use std::collections::BTreeSet;

use super::desired::{Desired, Link};
use super::observed::Observed;
use super::step::Step;
use super::view::View;
use crate::names::IfName;

/// The paths below /proc/sys whose values a plan needs to see.
pub fn sysctl_paths(desired: &Desired, observed: &Observed) -> BTreeSet<String> {
    let view = View::new(desired, observed, &mut Vec::new());
    let names = view.bottom_up().filter_map(|(logical, _)| Some(&view.seen(logical)?.name));
    let of_links = names.flat_map(|kernel| {
        let shared = desired.link_sysctls.keys().map(|key| path(kernel, key));
        shared.chain([path(kernel, NO_IPV6)])
    });
    of_links.chain(desired.sysctls.keys().cloned()).collect()
}

/// A port of a bridge or a bond speaks for itself to nobody. The kernel gives a bridge's port an IPv6 address;
/// a bond's port gets none, but as on any link of a router it reports on it that it listens to all routers
/// (`dev_forward_change` in net/ipv6/addrconf.c), with the bond's own MAC: sent by a port that only waits, that
/// makes the switch send the bond's traffic to where nobody reads it.
const NO_IPV6: &str = "ipv6/disable_ipv6";

fn path(kernel: &IfName, key: &str) -> String {
    let (family, name) = key.split_once('/').unwrap_or((key, ""));
    format!("net/{family}/conf/{kernel}/{name}")
}

/// The parameters of the whole host that differ.
///
/// Forwarding comes first: writing it resets others, redirects among them, to a router's defaults
/// (`inet_forward_change` in net/ipv4/devinet.c).
pub(super) fn host(view: &View, steps: &mut Vec<Step>) {
    let mut wanted: Vec<_> = view.desired.sysctls.iter().collect();
    wanted.sort_by_key(|(path, _)| !path.contains("forward"));
    for (path, value) in wanted {
        set(view, path.clone(), value, steps);
    }
}

/// The parameters of one link that differ; all of them for one that is only being made.
pub(super) fn link(view: &View, kernel: &IfName, link: &Link, steps: &mut Vec<Step>) {
    let no_ipv6 = path(kernel, NO_IPV6);
    let seen = view.observed.sysctls.get(&no_ipv6).map(String::as_str);
    match (seen, link.master.is_some()) {
        (Some("0"), true) => steps.push(Step::SetSysctl { path: no_ipv6, value: "1".into() }),
        (Some("1"), false) => steps.push(Step::SetSysctl { path: no_ipv6, value: "0".into() }),
        // It is right, or the host has no IPv6, or the link is only being made: the next look tells.
        _ => {}
    }
    if link.master.is_none() {
        for (key, value) in &view.desired.link_sysctls {
            set(view, path(kernel, key), value, steps);
        }
    }
}

fn set(view: &View, path: String, value: &str, steps: &mut Vec<Step>) {
    if view.observed.sysctls.get(&path).is_none_or(|seen| seen != value) {
        steps.push(Step::SetSysctl { path, value: value.to_owned() });
    }
}
