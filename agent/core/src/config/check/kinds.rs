//! What one link is, judged by itself: a NIC, a bond, a VLAN or a bridge.

use super::{Check, items};
use crate::config::given::Given;
use crate::config::merge::{MergedLink, MergedNode};
use crate::config::problem::{Draft, error};
use crate::config::raw::{List, RawBond, RawBondMode, RawLink, RawNic, RawVlan};
use crate::config::spots::Spot;
use crate::config::{BalanceHash, Bond, BondMode, LacpRate, LinkKind, NicChoice};
use crate::names::{IfName, MacAddr, Mtu};

/// A link with places, right by itself; what it refers to is not judged yet.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) spot: Spot,
    pub(super) kind: LinkKind,
    /// Ports or the parent, where they are named.
    pub(super) lower: Vec<(IfName, Spot)>,
    pub(super) mtu: Given<Mtu>,
}

/// The link if it is right by itself; what is wrong is told.
pub(super) fn shape(
    check: Check<'_>,
    node: &MergedNode,
    name: &IfName,
    link: &MergedLink,
) -> Option<Shape> {
    let raw = link.link.get()?;
    let judge = Judge { check, node };
    judge.name(name, link.spot);
    let (kind, lower) = judge.kind(name, raw, link.spot)?;
    Some(Shape { spot: link.spot, kind, lower, mtu: raw.mtu.clone() })
}

/// A kind, and the links that it names.
type Kind = (LinkKind, Vec<(IfName, Spot)>);

/// Names that the kernel gives a meaning of their own: the loopback, and two folders of
/// /proc/sys/net/ipv4/conf.
const RESERVED: [&str; 3] = ["lo", "all", "default"];

struct Judge<'a> {
    check: Check<'a>,
    node: &'a MergedNode,
}

impl Judge<'_> {
    fn tell(&self, draft: Draft) {
        self.check.tell_on(self.node, draft);
    }

    fn name(&self, name: &IfName, spot: Spot) {
        if RESERVED.contains(&name.as_str()) {
            let reason = format!("the kernel uses the name `{name}` for something else");
            self.tell(error(spot, reason).on_key().help("choose another name"));
        }
    }

    fn kind(&self, name: &IfName, link: &RawLink, spot: Spot) -> Option<Kind> {
        let RawLink { nic, bond, vlan, bridge, mtu: _, absent: _ } = link;
        let kinds = [!nic.is_absent(), !bond.is_absent(), !vlan.is_absent(), !bridge.is_absent()];
        match kinds.iter().filter(|given| **given).count() {
            0 => self.nothing_said(name, spot),
            1 => {}
            _ => {
                let reason = format!("link `{name}` is said to be several things at once");
                self.tell(error(spot, reason).help("keep one of nic, bond, vlan and bridge"));
                return None;
            }
        }
        if let Some((nic, spot)) = nic.at() {
            return Some((LinkKind::Nic(self.nic(nic, spot)?), Vec::new()));
        }
        if let Some((bond, spot)) = bond.at() {
            return self.bond(bond, spot);
        }
        if let Some((vlan, spot)) = vlan.at() {
            return self.vlan(vlan, spot);
        }
        let lower = ports(&bridge.get()?.ports);
        Some((LinkKind::Bridge { ports: names(&lower) }, lower))
    }

    fn nothing_said(&self, name: &IfName, spot: Spot) {
        let reason = format!("nothing says what link `{name}` is");
        let help = format!(
            "give it one of nic, bond, vlan, bridge here or below the node, such as \
             `links: {{{name}: {{nic: {{mac: 52:54:00:12:34:56}}}}}}`"
        );
        self.tell(error(spot, reason).help(help));
    }

    fn nic(&self, nic: &RawNic, spot: Spot) -> Option<NicChoice> {
        let RawNic { name, mac, path, driver } = nic;
        let given = [!name.is_absent(), !mac.is_absent(), !path.is_absent(), !driver.is_absent()];
        match given.iter().filter(|given| **given).count() {
            0 => {
                let help = "give one of `mac: 52:54:00:12:34:56`, `name: enp3s0`, \
                            `path: 0000:03:00.0`, `driver: ixgbe`";
                self.tell(error(spot, "nothing says which NIC this is").help(help));
                return None;
            }
            1 => {}
            _ => {
                let help = "keep one of mac, name, path and driver";
                self.tell(error(spot, "a NIC is chosen in one way only").help(help));
                return None;
            }
        }
        if let Some((mac, spot)) = mac.at() {
            self.one_nic(*mac, spot);
        }
        let name = name.get().cloned().map(NicChoice::Name);
        let mac = mac.get().copied().map(NicChoice::Mac);
        let path = path.get().cloned().map(NicChoice::Path);
        let driver = driver.get().cloned().map(NicChoice::Driver);
        name.or(mac).or(path).or(driver)
    }

    /// The lowest bit of the first byte marks a group address (IEEE 802, 8.2.2).
    fn one_nic(&self, mac: MacAddr, spot: Spot) {
        if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
            let reason = format!("{mac} is not the address of one NIC");
            let help = "write the NIC's permanent address; its first byte is even";
            self.tell(error(spot, reason).help(help));
        }
    }

    fn vlan(&self, vlan: &RawVlan, spot: Spot) -> Option<Kind> {
        let help = "write `parent: bond0`: the link that carries the tag";
        let parent = self.check.need(&vlan.parent, spot, "parent", help);
        let id = self.check.need(&vlan.id, spot, "id", "write `id: 100`: the tag, 1 to 4094");
        let lower = vlan.parent.at().map(|(parent, spot)| (parent.clone(), spot));
        Some((LinkKind::Vlan { parent: parent?, id: id? }, lower.into_iter().collect()))
    }

    fn bond(&self, bond: &RawBond, spot: Spot) -> Option<Kind> {
        let help = "write `mode: 802.3ad`, or active-backup if the switch knows no LACP";
        let mode = self.check.need(&bond.mode, spot, "mode", help);
        let help = "write `ports: [p0, p1]`: the NIC links that it is made of";
        self.check.need(&bond.ports, spot, "ports", help);
        let (listed, at) = bond.ports.at()?;
        if listed.is_empty() {
            self.tell(error(at, "a bond without ports carries nothing").help(help));
            return None;
        }
        let lower = ports(&bond.ports);
        // Without a mode the ports are judged all the same; the file is refused anyway.
        let mode = match mode {
            Some(mode) => self.mode(mode, bond, &lower),
            None => BondMode::BalanceXor { hash: BalanceHash::Layer2 },
        };
        Some((LinkKind::Bond(Bond { mode, ports: names(&lower) }), lower))
    }

    fn mode(&self, mode: RawBondMode, bond: &RawBond, ports: &[(IfName, Spot)]) -> BondMode {
        let RawBond { mode: _, ports: _, lacp_rate, hash_policy, primary } = bond;
        let hash = hash_policy.get().copied().unwrap_or(BalanceHash::Layer2);
        let rate = lacp_rate.get().copied().unwrap_or(LacpRate::Slow);
        let mode = match mode {
            RawBondMode::Lacp => BondMode::Lacp { rate, hash },
            RawBondMode::ActiveBackup => BondMode::ActiveBackup { primary: primary.get().cloned() },
            RawBondMode::BalanceXor => BondMode::BalanceXor { hash },
        };
        let (lacp, backup) = match mode {
            BondMode::Lacp { .. } => (true, false),
            BondMode::ActiveBackup { .. } => (false, true),
            BondMode::BalanceXor { .. } => (false, false),
        };
        if !lacp {
            self.not_in(&mode, "lacp_rate", lacp_rate, "802.3ad");
        }
        if backup {
            self.not_in(&mode, "hash_policy", hash_policy, "802.3ad or balance-xor");
            self.primary(primary, ports);
        } else {
            self.not_in(&mode, "primary", primary, "active-backup");
        }
        mode
    }

    /// A key that another mode of bond has.
    fn not_in<T>(&self, mode: &BondMode, key: &str, given: &Given<T>, works: &str) {
        let Some((_, spot)) = given.at() else { return };
        let reason = format!("`{key}` means nothing in mode {}", mode.name());
        self.tell(error(spot, reason).on_key().help(format!("remove it, or use mode {works}")));
    }

    fn primary(&self, primary: &Given<IfName>, ports: &[(IfName, Spot)]) {
        let Some((primary, spot)) = primary.at() else { return };
        if !ports.iter().any(|(port, _)| port == primary) {
            let reason = format!("primary `{primary}` is not a port of this bond");
            let ports = super::some(ports.iter().map(|(port, _)| port));
            self.tell(error(spot, reason).help(format!("write one of {ports}")));
        }
    }
}

fn ports(list: &List<IfName>) -> Vec<(IfName, Spot)> {
    items(list).map(|(name, spot)| (name.clone(), spot)).collect()
}

fn names(lower: &[(IfName, Spot)]) -> Vec<IfName> {
    lower.iter().map(|(name, _)| name.clone()).collect()
}
