//! What fits through what: an MTU is never above that of what carries it.

use std::collections::BTreeMap;

use super::kinds::Shape;
use super::links::NodeLinks;
use crate::config::problem::error;
use crate::config::{Link, LinkKind, MtuFrom};
use crate::names::{IfName, Mtu};

/// Every link with its MTU; `None` if one does not fit, which is told. The links have no cycles.
pub(super) fn resolve(links: &NodeLinks<'_>) -> Option<BTreeMap<IfName, Link>> {
    let mut mtus = Mtus { links, masters: links.masters(), known: BTreeMap::new() };
    let mut sound = true;
    let mut resolved = BTreeMap::new();
    for (name, shape) in &links.shapes {
        let (mtu, mtu_from) = mtus.of(name);
        for (lower, _) in &shape.lower {
            sound &= mtus.fits(name, shape, lower);
        }
        resolved.insert((*name).clone(), Link { kind: shape.kind.clone(), mtu, mtu_from });
    }
    sound.then_some(resolved)
}

struct Mtus<'a> {
    links: &'a NodeLinks<'a>,
    masters: BTreeMap<&'a IfName, &'a IfName>,
    /// What has been found before: a link may be below many.
    known: BTreeMap<IfName, (Mtu, MtuFrom)>,
}

impl Mtus<'_> {
    /// The MTU of a link: given, else that of its bond or bridge, else that of its parent, else 1500.
    fn of(&mut self, name: &IfName) -> (Mtu, MtuFrom) {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let found = self.find(name);
        self.known.insert(name.clone(), found.clone());
        found
    }

    fn find(&mut self, name: &IfName) -> (Mtu, MtuFrom) {
        let shape = self.links.shapes.get(name);
        if let Some(mtu) = shape.and_then(|shape| shape.mtu.get()) {
            return (*mtu, MtuFrom::Given);
        }
        if let Some(master) = self.masters.get(name).copied() {
            return (self.of(master).0, MtuFrom::Over(master.clone()));
        }
        match shape.map(|shape| &shape.kind) {
            Some(LinkKind::Vlan { parent, .. }) => {
                (self.of(parent).0, MtuFrom::Under(parent.clone()))
            }
            Some(LinkKind::Nic(_) | LinkKind::Bond(_) | LinkKind::Bridge { .. }) | None => {
                (Mtu::ETHERNET, MtuFrom::Default)
            }
        }
    }

    /// Whether `name` fits on `lower`.
    fn fits(&mut self, name: &IfName, shape: &Shape, lower: &IfName) -> bool {
        let (mtu, lower_mtu) = (self.of(name).0, self.of(lower).0);
        let (reason, help) = match &shape.kind {
            // The kernel gives every port of a bond the bond's MTU.
            LinkKind::Bond(_) if mtu != lower_mtu => (
                format!("bond `{name}` has MTU {mtu}, but its port `{lower}` has {lower_mtu}"),
                format!("give the MTU to `{name}` alone: its ports follow"),
            ),
            LinkKind::Vlan { .. } | LinkKind::Bridge { .. } if mtu > lower_mtu => (
                format!(
                    "MTU {mtu} of `{name}` is above {lower_mtu} of `{lower}`, which carries it"
                ),
                format!("write at most {lower_mtu} here, or give `{lower}` an `mtu` of {mtu}"),
            ),
            LinkKind::Nic(_)
            | LinkKind::Bond(_)
            | LinkKind::Vlan { .. }
            | LinkKind::Bridge { .. } => return true,
        };
        let lower_at = self.links.shapes.get(lower).and_then(|shape| shape.mtu.at());
        let at = shape.mtu.at().or(lower_at);
        self.links.tell(error(at.map_or(shape.spot, |(_, spot)| spot), reason).help(help));
        false
    }
}
