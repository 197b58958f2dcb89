//! The links of one node: what they are, and what sits on what.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, items, mtus, some};
use crate::config::given::Given;
use crate::config::merge::{MergedLink, MergedNode};
use crate::config::problem::{Draft, error};
use crate::config::raw::{RawBond, RawBondMode, RawLink, RawNic};
use crate::config::read::nearest;
use crate::config::spots::Spot;
use crate::config::{BalanceHash, Bond, BondMode, LacpRate, Link, LinkKind, NicChoice};
use crate::names::{IfName, Mtu};

/// A link with places, right by itself; what it refers to is not checked yet.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) spot: Spot,
    pub(super) kind: LinkKind,
    /// Ports or the parent, where they are named.
    pub(super) lower: Vec<(IfName, Spot)>,
    pub(super) mtu: Option<(Mtu, Spot)>,
}

/// The links of one node that are right by themselves, and what is known of their order.
pub(super) struct Shapes<'a> {
    pub(super) check: Check<'a>,
    pub(super) node: &'a MergedNode,
    pub(super) shapes: BTreeMap<&'a IfName, Shape>,
    /// Whether nothing is left out for being wrong.
    complete: bool,
}

/// The links of a node; `None` if something is wrong with them, which is told.
pub(super) fn links(check: Check<'_>, node: &MergedNode) -> Option<BTreeMap<IfName, Link>> {
    let mut shapes = Shapes { check, node, shapes: BTreeMap::new(), complete: true };
    for (name, merged) in &node.links {
        shapes.add(name, merged);
    }
    let complete = shapes.complete && shapes.shapes.len() == node.links.len();
    let sound =
        shapes.known_links() & shapes.one_master() & shapes.fitting_ports() & shapes.distinct();
    let acyclic = shapes.no_cycles();
    if !(complete && sound && acyclic) {
        return None;
    }
    mtus::resolve(&shapes)
}

/// Names that the kernel gives a meaning of their own: the loopback, and two folders of
/// /proc/sys/net/ipv4/conf.
const RESERVED: [&str; 3] = ["lo", "all", "default"];

impl<'a> Shapes<'a> {
    pub(super) fn tell(&self, draft: Draft) {
        self.check.tell_on(self.node, draft);
    }

    fn add(&mut self, name: &'a IfName, merged: &MergedLink) {
        let Some(link) = merged.link.get() else { return };
        if RESERVED.contains(&name.as_str()) {
            let reason = format!("the kernel uses the name `{name}` for something else");
            self.tell(error(merged.spot, reason).on_key().help("choose another name"));
        }
        let Some((kind, lower)) = self.kind(name, link, merged.spot) else { return };
        self.complete &= !matches!(link.mtu, Given::Wrong);
        let mtu = link.mtu.at().map(|(mtu, spot)| (*mtu, spot));
        self.shapes.insert(name, Shape { spot: merged.spot, kind, lower, mtu });
    }

    fn kind(
        &self,
        name: &IfName,
        link: &RawLink,
        spot: Spot,
    ) -> Option<(LinkKind, Vec<(IfName, Spot)>)> {
        let RawLink { nic, bond, vlan, bridge, mtu: _, absent: _ } = link;
        let kinds = [!nic.is_absent(), !bond.is_absent(), !vlan.is_absent(), !bridge.is_absent()];
        match kinds.iter().filter(|given| **given).count() {
            1 => {}
            0 => {
                let reason = format!("nothing says what link `{name}` is");
                let help = format!(
                    "give it one of nic, bond, vlan, bridge here or below the node, such as \
                     `links: {{{name}: {{nic: {{mac: 52:54:00:12:34:56}}}}}}`"
                );
                self.tell(error(spot, reason).help(help));
                return None;
            }
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
        if let Some((bridge, _)) = bridge.at() {
            let lower: Vec<_> = self.ports(&bridge.ports);
            return Some((LinkKind::Bridge { ports: names(&lower) }, lower));
        }
        let (vlan, spot) = vlan.at()?;
        let parent = self.check.need(
            &vlan.parent,
            spot,
            "parent",
            "write `parent: bond0`: the link that carries the tag",
        );
        let id = self.check.need(&vlan.id, spot, "id", "write `id: 100`: the tag, 1 to 4094");
        let (parent, id) = (parent?, id?);
        let lower = vlan.parent.at().map(|(parent, spot)| (parent.clone(), spot));
        Some((LinkKind::Vlan { parent, id }, lower.into_iter().collect()))
    }

    fn nic(&self, nic: &RawNic, spot: Spot) -> Option<NicChoice> {
        let RawNic { name, mac, path, driver } = nic;
        let wrong = [
            name.at().is_none() && !name.is_absent(),
            mac.at().is_none() && !mac.is_absent(),
            path.at().is_none() && !path.is_absent(),
            driver.at().is_none() && !driver.is_absent(),
        ];
        let choices = [
            name.get().cloned().map(NicChoice::Name),
            mac.get().copied().map(NicChoice::Mac),
            path.get().cloned().map(NicChoice::Path),
            driver.get().cloned().map(NicChoice::Driver),
        ];
        let mut choices = choices.into_iter().flatten();
        match (choices.next(), choices.next()) {
            (Some(choice), None) => {
                self.unicast(&choice, mac.at().map_or(spot, |(_, spot)| spot));
                Some(choice)
            }
            (None, _) if wrong.contains(&true) => None,
            (None, _) => {
                let reason = "nothing says which NIC this is";
                let help = "give one of `mac: 52:54:00:12:34:56`, `name: enp3s0`, \
                            `path: 0000:03:00.0`, `driver: ixgbe`";
                self.tell(error(spot, reason).help(help));
                None
            }
            (Some(_), Some(_)) => {
                let reason = "a NIC is chosen in one way only";
                self.tell(error(spot, reason).help("keep one of mac, name, path and driver"));
                None
            }
        }
    }

    /// The lowest bit of the first byte marks a group address (IEEE 802, 8.2.2).
    fn unicast(&self, choice: &NicChoice, spot: Spot) {
        if let NicChoice::Mac(mac) = choice
            && (mac.0[0] & 1 == 1 || mac.0 == [0; 6])
        {
            let reason = format!("{mac} is not the address of one NIC");
            self.tell(
                error(spot, reason)
                    .help("write the NIC's permanent address; its first byte is even"),
            );
        }
    }

    fn ports(&self, list: &crate::config::raw::List<IfName>) -> Vec<(IfName, Spot)> {
        items(list).map(|(name, spot)| (name.clone(), spot)).collect()
    }

    fn bond(&self, bond: &RawBond, spot: Spot) -> Option<(LinkKind, Vec<(IfName, Spot)>)> {
        let help = "write `mode: 802.3ad`, or active-backup if the switch knows no LACP";
        let mode = self.check.need(&bond.mode, spot, "mode", help);
        let help = "write `ports: [p0, p1]`: the NIC links that it is made of";
        let listed = self.check.need(&bond.ports, spot, "ports", help);
        let lower = self.ports(&bond.ports);
        if listed.as_ref().is_some_and(Vec::is_empty) {
            let at = bond.ports.at().map_or(spot, |(_, spot)| spot);
            self.tell(error(at, "a bond without ports carries nothing").help(help));
            return None;
        }
        listed?;
        // Without a mode the ports are judged all the same; the file is refused anyway.
        let mode = match mode {
            Some(mode) => self.bond_mode(mode, bond, &names(&lower)),
            None => BondMode::BalanceXor { hash: BalanceHash::Layer2 },
        };
        Some((LinkKind::Bond(Bond { mode, ports: names(&lower) }), lower))
    }

    fn bond_mode(&self, mode: RawBondMode, bond: &RawBond, ports: &[IfName]) -> BondMode {
        let RawBond { mode: _, ports: _, lacp_rate, hash_policy, primary } = bond;
        let hash = hash_policy.get().copied().unwrap_or(BalanceHash::Layer2);
        let not_here = |key: &str, at: Option<Spot>, works: &str| {
            let Some(spot) = at else { return };
            let name = match mode {
                RawBondMode::Lacp => "802.3ad",
                RawBondMode::ActiveBackup => "active-backup",
                RawBondMode::BalanceXor => "balance-xor",
            };
            let reason = format!("`{key}` means nothing in mode {name}");
            let help = format!("remove it, or use mode {works}");
            self.tell(error(spot, reason).on_key().help(help));
        };
        let lacp_at = lacp_rate.at().map(|(_, spot)| spot);
        let hash_at = hash_policy.at().map(|(_, spot)| spot);
        let primary_at = primary.at().map(|(_, spot)| spot);
        match mode {
            RawBondMode::Lacp => {
                not_here("primary", primary_at, "active-backup");
                BondMode::Lacp { rate: lacp_rate.get().copied().unwrap_or(LacpRate::Slow), hash }
            }
            RawBondMode::ActiveBackup => {
                not_here("lacp_rate", lacp_at, "802.3ad");
                not_here("hash_policy", hash_at, "802.3ad or balance-xor");
                self.check_primary(primary.at(), ports);
                BondMode::ActiveBackup { primary: primary.get().cloned() }
            }
            RawBondMode::BalanceXor => {
                not_here("lacp_rate", lacp_at, "802.3ad");
                not_here("primary", primary_at, "active-backup");
                BondMode::BalanceXor { hash }
            }
        }
    }

    fn check_primary(&self, primary: Option<(&IfName, Spot)>, ports: &[IfName]) {
        let Some((primary, spot)) = primary else { return };
        if !ports.contains(primary) {
            let ports: Vec<&str> = ports.iter().map(IfName::as_str).collect();
            let reason = format!("primary `{primary}` is not a port of this bond");
            self.tell(error(spot, reason).help(format!("write one of {}", ports.join(", "))));
        }
    }

    /// Every port and parent is a link of the node.
    fn known_links(&self) -> bool {
        let mut known = true;
        for shape in self.shapes.values() {
            for (lower, spot) in &shape.lower {
                known &= is_link(self.check, self.node, lower, *spot);
            }
        }
        known
    }

    /// The bond or bridge that has each port.
    pub(super) fn masters(&self) -> BTreeMap<&IfName, &'a IfName> {
        let with_ports = self.shapes.iter().filter(|(_, shape)| has_ports(&shape.kind));
        with_ports
            .flat_map(|(name, shape)| shape.lower.iter().map(|(port, _)| (port, *name)))
            .collect()
    }

    fn one_master(&self) -> bool {
        let mut masters: BTreeMap<&IfName, &IfName> = BTreeMap::new();
        let mut single = true;
        for (name, shape) in self.shapes.iter().filter(|(_, shape)| has_ports(&shape.kind)) {
            for (port, spot) in &shape.lower {
                let Some(first) = masters.insert(port, name) else { continue };
                single = false;
                let reason = if first == *name {
                    format!("`{port}` is listed twice")
                } else {
                    format!("`{port}` is already a port of `{first}`")
                };
                self.tell(
                    error(*spot, reason).help("a link is a port of one bond or bridge, once"),
                );
            }
        }
        single
    }

    /// What can be a port of what, and that a VLAN does not bypass the bond of its parent.
    fn fitting_ports(&self) -> bool {
        let masters = self.masters();
        let mut fitting = true;
        for (name, shape) in &self.shapes {
            for (lower, spot) in &shape.lower {
                let problem = self.misfit(&shape.kind, lower, &masters);
                fitting &= problem.is_none();
                if let Some((reason, help)) = problem {
                    self.tell(error(*spot, reason.replace("THIS", name.as_str())).help(help));
                }
            }
        }
        fitting
    }

    fn misfit(
        &self,
        kind: &LinkKind,
        lower: &IfName,
        masters: &BTreeMap<&IfName, &IfName>,
    ) -> Option<(String, String)> {
        let lower_kind = &self.shapes.get(lower)?.kind;
        match kind {
            LinkKind::Bond(_) if !matches!(lower_kind, LinkKind::Nic(_)) => Some((
                format!("`{lower}` is not a NIC; a bond's ports are NICs"),
                "list NIC links as ports; VLANs and bridges go on top of the bond".to_owned(),
            )),
            LinkKind::Bridge { .. } if matches!(lower_kind, LinkKind::Bridge { .. }) => Some((
                format!("`{lower}` is a bridge; the kernel refuses a bridge in a bridge"),
                "list its ports here instead".to_owned(),
            )),
            LinkKind::Vlan { .. } => masters.get(lower).map(|master| {
                (
                    format!("`{lower}` is a port of `{master}`, so its packets go there"),
                    format!("write `parent: {master}`"),
                )
            }),
            LinkKind::Nic(_) | LinkKind::Bond(_) | LinkKind::Bridge { .. } => None,
        }
    }

    /// No tag twice on a parent, no NIC under two names.
    fn distinct(&self) -> bool {
        let mut tags = BTreeMap::new();
        let mut nics = BTreeMap::new();
        let mut distinct = true;
        for (name, shape) in &self.shapes {
            let first = match &shape.kind {
                LinkKind::Vlan { parent, id } => tags.insert((parent, *id), *name),
                LinkKind::Nic(choice) => nics.insert(choice, *name),
                LinkKind::Bond(_) | LinkKind::Bridge { .. } => None,
            };
            let Some(first) = first else { continue };
            distinct = false;
            let (reason, help) = match &shape.kind {
                LinkKind::Vlan { parent, id } => (
                    format!("`{name}` is VLAN {id} of `{parent}`, and so is `{first}`"),
                    "give one of them another ID or parent, or use one link for both",
                ),
                _ => (
                    format!("`{name}` is the same NIC as `{first}`"),
                    "choose another NIC, or use one link for both",
                ),
            };
            self.tell(error(shape.spot, reason).help(help));
        }
        distinct
    }

    /// No link sits on itself, over any number of others.
    fn no_cycles(&self) -> bool {
        let mut open: BTreeSet<&IfName> = self.shapes.keys().copied().collect();
        let mut acyclic = true;
        loop {
            self.shed(&mut open);
            let Some(start) = open.first().copied() else { return acyclic };
            acyclic = false;
            let cycle = self.cycle_below(start, &open);
            self.tell_cycle(&cycle);
            open.retain(|name| !cycle.contains(name));
        }
    }

    /// Takes away every link that sits on none of the others, until none is left that does not.
    fn shed(&self, open: &mut BTreeSet<&IfName>) {
        loop {
            let before = open.clone();
            open.retain(|name| self.lower_in(name, &before).is_some());
            if open.len() == before.len() {
                return;
            }
        }
    }

    /// The first of the links below `name` that is among the others.
    fn lower_in<'s>(&self, name: &IfName, others: &BTreeSet<&'s IfName>) -> Option<&'s IfName> {
        let lower = &self.shapes.get(name)?.lower;
        lower.iter().find_map(|(lower, _)| others.get(lower).copied())
    }

    /// From `start` downwards, each of `open` sits on another: the first one met twice closes the cycle.
    fn cycle_below<'s>(&self, start: &'s IfName, open: &BTreeSet<&'s IfName>) -> Vec<&'s IfName> {
        let mut way = vec![start];
        let mut last = start;
        while let Some(next) = self.lower_in(last, open) {
            if let Some(at) = way.iter().position(|name| *name == next) {
                return way.split_off(at);
            }
            way.push(next);
            last = next;
        }
        way
    }

    fn tell_cycle(&self, cycle: &[&IfName]) {
        let Some(first) = cycle.first() else { return };
        let Some(shape) = self.shapes.get(first) else { return };
        let way: Vec<String> = cycle.iter().map(|link| format!("`{link}`")).collect();
        let reason = format!("`{first}` sits on itself: {} on `{first}`", way.join(" on "));
        let help = "change a parent or a port so that a NIC is at the bottom";
        self.tell(error(shape.spot, reason).help(help));
    }
}

fn names(lower: &[(IfName, Spot)]) -> Vec<IfName> {
    lower.iter().map(|(name, _)| name.clone()).collect()
}

fn has_ports(kind: &LinkKind) -> bool {
    matches!(kind, LinkKind::Bond(_) | LinkKind::Bridge { .. })
}

/// Whether the node has a link of this name; told if not.
pub(super) fn is_link(check: Check<'_>, node: &MergedNode, name: &IfName, spot: Spot) -> bool {
    if node.links.contains_key(name) {
        return true;
    }
    let known: Vec<&str> = node.links.keys().map(IfName::as_str).collect();
    let help = match nearest(name.as_str(), &known) {
        Some(meant) => format!("did you mean `{meant}`? The links are {}", some(known)),
        None if known.is_empty() => format!("give `links: {{{name}: …}}`; there are none"),
        None => format!("the links are {}", some(known)),
    };
    check.tell_on(node, error(spot, format!("there is no link `{name}`")).help(help));
    false
}
