//! A bond's parameters in the kernel's words and in ours.

use rtnetlink::packet_route::link::{self, BondXmitHashPolicy, InfoBond};
use trilith_core::network::{Bond, BondMode, BondOption, LacpRate, ObservedBond, XmitHashPolicy};

use super::observe::Names;

/// What the kernel tells of a bond.
pub(super) fn observed(infos: &[InfoBond], names: &Names) -> ObservedBond {
    let mut bond = ObservedBond {
        mode: None,
        miimon: 0,
        lacp_rate: None,
        xmit_hash_policy: None,
        primary: None,
    };
    for info in infos {
        match info {
            InfoBond::Mode(mode) => bond.mode = our_mode(*mode),
            InfoBond::MiiMon(millis) => bond.miimon = *millis,
            InfoBond::AdLacpRate(rate) => bond.lacp_rate = our_rate(*rate),
            InfoBond::XmitHashPolicy(policy) => bond.xmit_hash_policy = our_policy(*policy),
            InfoBond::Primary(index) => bond.primary = names.get(index).cloned(),
            _ => {}
        }
    }
    bond
}

/// What a new bond is made with. The preferred port comes later, when it is a port.
pub(super) fn new(bond: &Bond) -> Vec<InfoBond> {
    let Bond {
        mode,
        miimon,
        lacp_rate,
        xmit_hash_policy,
        primary: _, /* set once it is a port */
    } = bond;
    let mut infos = vec![InfoBond::Mode(kernel_mode(*mode)), InfoBond::MiiMon(*miimon)];
    match mode {
        BondMode::Lacp => {
            infos.push(InfoBond::AdLacpRate(kernel_rate(*lacp_rate)));
            infos.push(InfoBond::XmitHashPolicy(kernel_policy(*xmit_hash_policy)));
        }
        BondMode::BalanceXor => {
            infos.push(InfoBond::XmitHashPolicy(kernel_policy(*xmit_hash_policy)));
        }
        BondMode::ActiveBackup => {}
    }
    infos
}

/// One parameter. `primary` is the preferred port's number; 0, which no link has, takes the preference away.
pub(super) fn option(option: &BondOption, primary: u32) -> InfoBond {
    match option {
        BondOption::Mode(mode) => InfoBond::Mode(kernel_mode(*mode)),
        BondOption::Miimon(millis) => InfoBond::MiiMon(*millis),
        BondOption::LacpRate(rate) => InfoBond::AdLacpRate(kernel_rate(*rate)),
        BondOption::XmitHashPolicy(policy) => InfoBond::XmitHashPolicy(kernel_policy(*policy)),
        BondOption::Primary(_) => InfoBond::Primary(primary),
    }
}

fn kernel_mode(mode: BondMode) -> link::BondMode {
    match mode {
        BondMode::Lacp => link::BondMode::Ieee8023Ad,
        BondMode::ActiveBackup => link::BondMode::ActiveBackup,
        BondMode::BalanceXor => link::BondMode::BalanceXor,
    }
}

fn our_mode(mode: link::BondMode) -> Option<BondMode> {
    match mode {
        link::BondMode::Ieee8023Ad => Some(BondMode::Lacp),
        link::BondMode::ActiveBackup => Some(BondMode::ActiveBackup),
        link::BondMode::BalanceXor => Some(BondMode::BalanceXor),
        _ => None,
    }
}

fn kernel_rate(rate: LacpRate) -> link::BondLacpRate {
    match rate {
        LacpRate::Slow => link::BondLacpRate::Slow,
        LacpRate::Fast => link::BondLacpRate::Fast,
    }
}

fn our_rate(rate: link::BondLacpRate) -> Option<LacpRate> {
    match rate {
        link::BondLacpRate::Slow => Some(LacpRate::Slow),
        link::BondLacpRate::Fast => Some(LacpRate::Fast),
        link::BondLacpRate::Other(_) => None,
    }
}

const POLICIES: [(XmitHashPolicy, BondXmitHashPolicy); 6] = [
    (XmitHashPolicy::Layer2, BondXmitHashPolicy::Layer2),
    (XmitHashPolicy::Layer23, BondXmitHashPolicy::Layer23),
    (XmitHashPolicy::Layer34, BondXmitHashPolicy::Layer34),
    (XmitHashPolicy::Encap23, BondXmitHashPolicy::Encap23),
    (XmitHashPolicy::Encap34, BondXmitHashPolicy::Encap34),
    (XmitHashPolicy::VlanSrcMac, BondXmitHashPolicy::VlanSrcMac),
];

fn kernel_policy(policy: XmitHashPolicy) -> BondXmitHashPolicy {
    let pair = POLICIES.iter().find(|(ours, _)| *ours == policy);
    pair.map_or(BondXmitHashPolicy::Layer2, |(_, kernel)| *kernel)
}

fn our_policy(policy: BondXmitHashPolicy) -> Option<XmitHashPolicy> {
    POLICIES.iter().find(|(_, kernel)| *kernel == policy).map(|(ours, _)| *ours)
}
