//! The links of one node among each other: what sits on what.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::{Shape, shape};
use super::{Check, mtus, some};
use crate::config::given::Given;
use crate::config::merge::MergedNode;
use crate::config::problem::{Draft, error};
use crate::config::read::nearest;
use crate::config::spots::Spot;
use crate::config::{Link, LinkKind, NicChoice};
use crate::names::IfName;

/// The links of one node that are right by themselves.
pub(super) struct NodeLinks<'a> {
    check: Check<'a>,
    node: &'a MergedNode,
    pub(super) shapes: BTreeMap<&'a IfName, Shape>,
}

/// The links of a node; `None` if something is wrong with them, which is told.
pub(super) fn links(check: Check<'_>, node: &MergedNode) -> Option<BTreeMap<IfName, Link>> {
    let shapes = node.links.iter();
    let shapes = shapes.filter_map(|(name, link)| Some((name, shape(check, node, name, link)?)));
    let links = NodeLinks { check, node, shapes: shapes.collect() };
    let lower = links.lower_are_known() & links.ports_have_one_master() & links.lower_fit();
    let distinct = links.are_distinct() & links.have_free_names();
    let acyclic = links.have_no_cycles();
    let sound = links.are_complete() && lower && distinct && acyclic;
    if sound { mtus::resolve(&links) } else { None }
}

impl<'a> NodeLinks<'a> {
    pub(super) fn tell(&self, draft: Draft) {
        self.check.tell_on(self.node, draft);
    }

    /// Whether nothing is left out for being wrong.
    fn are_complete(&self) -> bool {
        let mtus = self.shapes.values().all(|shape| !matches!(shape.mtu, Given::Wrong));
        mtus && self.shapes.len() == self.node.links.len()
    }

    /// Every link with each that it names.
    fn pairs(&self) -> impl Iterator<Item = (&'a IfName, &Shape, &IfName, Spot)> {
        self.shapes.iter().flat_map(|(name, shape)| {
            shape.lower.iter().map(move |(lower, spot)| (*name, shape, lower, *spot))
        })
    }

    /// Every bond or bridge with each of its ports.
    fn ports(&self) -> impl Iterator<Item = (&'a IfName, &IfName, Spot)> {
        let pairs = self.pairs().filter(|(_, shape, ..)| has_ports(&shape.kind));
        pairs.map(|(master, _, port, spot)| (master, port, spot))
    }

    /// The bond or bridge that has each port.
    pub(super) fn masters(&self) -> BTreeMap<&IfName, &'a IfName> {
        self.ports().map(|(master, port, _)| (port, master)).collect()
    }

    fn lower_are_known(&self) -> bool {
        let known = |(_, _, lower, spot)| is_link(self.check, self.node, lower, spot);
        self.pairs().map(known).fold(true, |all, known| all & known)
    }

    fn ports_have_one_master(&self) -> bool {
        let mut masters = BTreeMap::new();
        let mut single = true;
        for (master, port, spot) in self.ports() {
            let Some(first) = masters.insert(port, master) else { continue };
            single = false;
            let reason = if first == master {
                format!("`{port}` is listed twice")
            } else {
                format!("`{port}` is already a port of `{first}`")
            };
            self.tell(error(spot, reason).help("a link is a port of one bond or bridge, once"));
        }
        single
    }

    /// What can be a port of what, and that a VLAN does not bypass the bond of its parent.
    fn lower_fit(&self) -> bool {
        let masters = self.masters();
        let mut fitting = true;
        for (_, shape, lower, spot) in self.pairs() {
            let Some((reason, help)) = self.misfit(&shape.kind, lower, &masters) else { continue };
            fitting = false;
            self.tell(error(spot, reason).help(help));
        }
        fitting
    }

    /// Why a link of this kind cannot sit on `lower`, and what to write.
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
                let reason = format!("`{lower}` is a port of `{master}`, so its packets go there");
                (reason, format!("write `parent: {master}`"))
            }),
            LinkKind::Nic(_) | LinkKind::Bond(_) | LinkKind::Bridge { .. } => None,
        }
    }

    /// No tag twice on a parent, no NIC under two names.
    fn are_distinct(&self) -> bool {
        let mut tags = BTreeMap::new();
        let mut nics = BTreeMap::new();
        let mut distinct = true;
        for (name, shape) in &self.shapes {
            let (first, reason, help) = match &shape.kind {
                LinkKind::Vlan { parent, id } => (
                    tags.insert((parent, *id), *name),
                    format!("`{name}` is VLAN {id} of `{parent}`, and so is"),
                    "give one of them another ID or parent, or use one link for both",
                ),
                LinkKind::Nic(choice) => (
                    nics.insert(choice, *name),
                    format!("`{name}` is the same NIC as"),
                    "choose another NIC, or use one link for both",
                ),
                LinkKind::Bond(_) | LinkKind::Bridge { .. } => continue,
            };
            let Some(first) = first else { continue };
            distinct = false;
            self.tell(error(shape.spot, format!("{reason} `{first}`")).help(help));
        }
        distinct
    }

    /// A bond, VLAN or bridge cannot have the kernel name that a NIC of the node has.
    fn have_free_names(&self) -> bool {
        let mut free = true;
        for (nic, shape) in &self.shapes {
            let LinkKind::Nic(NicChoice::Name(kernel)) = &shape.kind else { continue };
            let Some(holder) = self.shapes.get(kernel) else { continue };
            if matches!(holder.kind, LinkKind::Nic(_)) {
                continue;
            }
            free = false;
            let reason = format!("`{kernel}` is the kernel's name of the NIC `{nic}`");
            let help = "call this link something else: the kernel has each name once";
            self.tell(error(holder.spot, reason).on_key().help(help));
        }
        free
    }

    /// No link sits on itself, over any number of others.
    fn have_no_cycles(&self) -> bool {
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
