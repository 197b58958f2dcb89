//! Desired and observed seen together: which desired link is which link of the kernel, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use super::choose::{self, Choice};
use super::desired::{Desired, Kind, Link};
use super::observed::{Observed, ObservedKind, ObservedLink};
use crate::names::IfName;
use crate::status::Problem;

/// What becomes of a desired link in this plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is there and stays; what differs is changed in place.
    Keep,
    /// It is not there and is made.
    Make,
    /// One of the agent's own is in its place and cannot be turned into it: removed and made anew.
    Remake,
    /// It cannot be there now; a problem says why.
    Absent,
}

/// Desired and observed, matched.
pub(super) struct View<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    choice: Choice<'a>,
    fates: BTreeMap<&'a IfName, Fate>,
    /// Every desired link, what it stands on before it.
    order: Vec<&'a IfName>,
}

impl<'a> View<'a> {
    /// Matches them; what is missing or in the way becomes a problem.
    pub(super) fn new(
        desired: &'a Desired,
        observed: &'a Observed,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let choice = choose::choose(desired, observed, problems);
        let order = bottom_up(desired);
        let mut view = Self { desired, observed, choice, fates: BTreeMap::new(), order };
        for (logical, link) in view.bottom_up().collect::<Vec<_>>() {
            let fate = view.fate_of(logical, link).unwrap_or_else(|reason| {
                let object = logical.to_string();
                problems.extend(reason.map(|reason| Problem { object, reason }));
                Fate::Absent
            });
            view.fates.insert(logical, fate);
        }
        view
    }

    /// The error is why it cannot be there, `None` if that has been said.
    fn fate_of(&self, logical: &IfName, link: &Link) -> Result<Fate, Option<String>> {
        let below = match &link.kind {
            Kind::Nic(_) => {
                return self.choice.names.get(logical).map(|_| Fate::Keep).ok_or(None);
            }
            Kind::Bond(_) | Kind::Bridge => Fate::Keep,
            Kind::Vlan { parent, .. } => self.fate(parent),
        };
        if below == Fate::Absent {
            return Err(Some("the link below it is missing".into()));
        }
        let Some(seen) = self.find(logical) else { return Ok(Fate::Make) };
        // The kernel removes a VLAN with the link below it.
        if below != Fate::Remake && self.fits(&link.kind, &seen.kind) {
            return Ok(Fate::Keep);
        }
        match self.may_delete(seen) {
            Ok(()) => Ok(Fate::Remake),
            Err(why) => Err(Some(format!("{why}, and it cannot be turned into this one"))),
        }
    }

    /// Whether what differs, if anything, can be changed in place.
    fn fits(&self, want: &Kind, seen: &ObservedKind) -> bool {
        match (want, seen) {
            (Kind::Bond(_), ObservedKind::Bond(_)) | (Kind::Bridge, ObservedKind::Bridge) => true,
            (
                Kind::Vlan { parent, id },
                ObservedKind::Vlan { parent: seen_parent, id: seen_id },
            ) => id == seen_id && self.kernel_name(parent) == seen_parent.as_ref(),
            _ => false,
        }
    }

    /// Whether a link may be removed: it is the agent's own, and nothing foreign stands on it.
    pub(super) fn may_delete(&self, seen: &ObservedLink) -> Result<(), String> {
        let made = match seen.kind {
            ObservedKind::Bond(_) | ObservedKind::Vlan { .. } | ObservedKind::Bridge => true,
            ObservedKind::Nic | ObservedKind::Other(_) => false,
        };
        if !made || !seen.is_owned() {
            return Err(format!("another link {} is there that is not managed", seen.name));
        }
        let on_it = |link: &&ObservedLink| {
            matches!(&link.kind,
            ObservedKind::Vlan { parent: Some(parent), .. } if *parent == seen.name && !link.is_owned())
        };
        match self.observed.links.iter().find(on_it) {
            Some(above) => {
                Err(format!("{} is not managed and stands on {}", above.name, seen.name))
            }
            None => Ok(()),
        }
    }

    /// Every desired link, what it stands on before it.
    pub(super) fn bottom_up(&self) -> impl DoubleEndedIterator<Item = (&'a IfName, &'a Link)> {
        self.order.iter().filter_map(|logical| self.desired.links.get_key_value(*logical))
    }

    /// What becomes of a desired link.
    pub(super) fn fate(&self, logical: &IfName) -> Fate {
        self.fates.get(logical).copied().unwrap_or(Fate::Absent)
    }

    /// The kernel's name of a desired link, `None` if it cannot be there now.
    pub(super) fn kernel_name<'s>(&'s self, logical: &'s IfName) -> Option<&'s IfName> {
        match self.desired.links.get(logical)?.kind {
            Kind::Nic(_) => self.choice.names.get(logical),
            Kind::Bond(_) | Kind::Vlan { .. } | Kind::Bridge => {
                (self.fate(logical) != Fate::Absent).then_some(logical)
            }
        }
    }

    /// The desired link that a link of the kernel is, if it stays.
    pub(super) fn logical(&self, kernel: &IfName) -> Option<(&'a IfName, &'a Link)> {
        self.bottom_up().find(|(logical, _)| {
            self.fate(logical) == Fate::Keep && self.kernel_name(logical) == Some(kernel)
        })
    }

    /// The link of the kernel that a desired one is, if it stays.
    pub(super) fn seen(&self, logical: &IfName) -> Option<&'a ObservedLink> {
        if self.fate(logical) != Fate::Keep {
            return None;
        }
        self.find(self.kernel_name(logical)?)
    }

    /// A link by the kernel's name.
    pub(super) fn find(&self, kernel: &IfName) -> Option<&'a ObservedLink> {
        self.observed.links.iter().find(|link| link.name == *kernel)
    }

    /// The desired ports of a bond or bridge.
    pub(super) fn ports(&self, master: &'a IfName) -> impl Iterator<Item = (&'a IfName, &'a Link)> {
        self.bottom_up().filter(move |(_, link)| link.master.as_ref() == Some(master))
    }

    /// The desired bond that a link is a port of.
    pub(super) fn bond_of(&self, link: &Link) -> Option<&'a Link> {
        let (_, master) = self.desired.links.get_key_value(link.master.as_ref()?)?;
        matches!(master.kind, Kind::Bond(_)).then_some(master)
    }

    /// Whether a link of the kernel is left as it is, whatever is on it, until a problem is solved: a NIC that
    /// several logical names could mean, or a link that is wanted and cannot be brought about now, such as a
    /// VLAN on such a NIC. A mistake in the cluster file should not cost the connection that mends it.
    pub(super) fn is_left_alone(&self, kernel: &IfName) -> bool {
        let wanted = self.desired.links.get(kernel);
        let stuck = wanted.is_some_and(|link| !matches!(link.kind, Kind::Nic(_)))
            && self.fate(kernel) == Fate::Absent;
        stuck || self.choice.disputed.contains(kernel)
    }

    /// The agent's own links that go, by kernel name: no longer desired, or in the place of another kind.
    pub(super) fn doomed(&self) -> impl Iterator<Item = &'a ObservedLink> {
        self.observed
            .links
            .iter()
            .filter(|seen| self.logical(&seen.name).is_none() && !self.is_left_alone(&seen.name))
            .filter(|seen| self.may_delete(seen).is_ok())
    }
}

/// What a link stands on comes before it: a VLAN's parent, the ports of a bond or bridge.
fn bottom_up(desired: &Desired) -> Vec<&IfName> {
    let mut order = Vec::new();
    let mut visited = BTreeSet::new();
    for logical in desired.links.keys() {
        visit(desired, logical, &mut visited, &mut order);
    }
    order
}

fn visit<'a>(
    desired: &'a Desired,
    logical: &'a IfName,
    visited: &mut BTreeSet<&'a IfName>,
    order: &mut Vec<&'a IfName>,
) {
    // The mark also ends a circle, which a valid configuration does not have.
    if !visited.insert(logical) {
        return;
    }
    if let Some(Kind::Vlan { parent, .. }) = desired.links.get(logical).map(|link| &link.kind)
        && let Some((parent, _)) = desired.links.get_key_value(parent)
    {
        visit(desired, parent, visited, order);
    }
    for (port, link) in &desired.links {
        if link.master.as_ref() == Some(logical) {
            visit(desired, port, visited, order);
        }
    }
    order.push(logical);
}
