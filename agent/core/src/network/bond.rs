//! What differs between a bond and what it should be, and what must be down to change it.

use super::desired::{Bond, BondMode};
use super::links::is_port;
use super::observed::{ObservedBond, ObservedKind};
use super::step::{BondOption, Step};
use super::view::View;
use crate::names::IfName;

/// Brings a bond's parameters and ports to what is wanted: first what needs it down or empty, then the
/// ports, then the preferred one among them.
pub(super) fn shape(
    view: &View,
    logical: &IfName,
    kernel: &IfName,
    want: &Bond,
    steps: &mut Vec<Step>,
) {
    let primary = want.primary.as_ref().and_then(|primary| view.kernel_name(primary));
    let (now, up) = match view.seen(logical).map(|seen| (&seen.kind, seen.up)) {
        Some((ObservedKind::Bond(now), up)) => (now.clone(), up),
        _ => (as_created(want), false),
    };
    let (primary, options): (Vec<_>, Vec<_>) = differences(want, &now, primary)
        .into_iter()
        .partition(|option| matches!(option, BondOption::Primary(_)));
    let emptied = options.iter().any(needs_no_ports);
    let down = up && options.iter().any(needs_down);
    if emptied {
        let ports = view.observed.links.iter().filter(|link| link.master.as_ref() == Some(kernel));
        steps.extend(ports.map(|port| Step::SetMaster { port: port.name.clone(), master: None }));
    }
    if down {
        steps.push(Step::SetDown(kernel.clone()));
    }
    set(kernel, options, steps);
    enter(view, logical, kernel, emptied, steps);
    if down {
        steps.push(Step::SetUp(kernel.clone()));
    }
    set(kernel, primary, steps);
}

/// A bond right after [`super::Step::CreateLink`] made it: everything is right but the preferred port, which
/// is none yet.
fn as_created(want: &Bond) -> ObservedBond {
    ObservedBond {
        mode: Some(want.mode),
        miimon: want.miimon,
        lacp_rate: Some(want.lacp_rate),
        xmit_hash_policy: Some(want.xmit_hash_policy),
        primary: None,
    }
}

fn set(bond: &IfName, options: Vec<BondOption>, steps: &mut Vec<Step>) {
    if !options.is_empty() {
        steps.push(Step::SetBond { link: bond.clone(), options });
    }
}

/// Puts the missing ports in. A port must be down to enter; the bond then sets it up. One that the bond just
/// let go is down already.
fn enter(view: &View, logical: &IfName, kernel: &IfName, emptied: bool, steps: &mut Vec<Step>) {
    for (port, _) in view.ports(logical) {
        let Some(port_kernel) = view.kernel_name(port) else { continue };
        let stays = is_port(view, port, logical);
        if stays && !emptied {
            continue;
        }
        if !stays && view.seen(port).is_none_or(|seen| seen.up) {
            steps.push(Step::SetDown(port_kernel.clone()));
        }
        steps.push(Step::SetMaster { port: port_kernel.clone(), master: Some(kernel.clone()) });
    }
}

/// The parameters that differ. `primary` is the preferred port's kernel name, if it is or will be a port.
///
/// A parameter counts only in the modes that use it: the kernel refuses `lacp_rate` outside of 802.3ad and
/// `primary` outside of active-backup (`unsuppmodes` in `drivers/net/bonding/bond_options.c`).
fn differences(want: &Bond, seen: &ObservedBond, primary: Option<&IfName>) -> Vec<BondOption> {
    let Bond { mode, miimon, lacp_rate, xmit_hash_policy, primary: _ /* by kernel name */ } = want;
    let lacp = *mode == BondMode::Lacp;
    let hashes = lacp || *mode == BondMode::BalanceXor;
    let prefers = *mode == BondMode::ActiveBackup;
    let options = [
        (seen.mode != Some(*mode)).then_some(BondOption::Mode(*mode)),
        (seen.miimon != *miimon).then_some(BondOption::Miimon(*miimon)),
        (lacp && seen.lacp_rate != Some(*lacp_rate)).then_some(BondOption::LacpRate(*lacp_rate)),
        (hashes && seen.xmit_hash_policy != Some(*xmit_hash_policy))
            .then_some(BondOption::XmitHashPolicy(*xmit_hash_policy)),
        (prefers && seen.primary.as_ref() != primary)
            .then(|| BondOption::Primary(primary.cloned())),
    ];
    options.into_iter().flatten().collect()
}

/// Whether a change needs the bond to be down (`BOND_OPTFLAG_IFDOWN`).
fn needs_down(option: &BondOption) -> bool {
    match option {
        BondOption::Mode(_) | BondOption::LacpRate(_) => true,
        BondOption::Miimon(_) | BondOption::XmitHashPolicy(_) | BondOption::Primary(_) => false,
    }
}

/// Whether a change needs the bond to have no ports (`BOND_OPTFLAG_NOSLAVES`).
fn needs_no_ports(option: &BondOption) -> bool {
    matches!(option, BondOption::Mode(_))
}
