//! Who comes when: hypervisors first, then coordinators, those that lead something last.

use std::collections::BTreeSet;

use super::word::Leads;
use super::{Member, View, safety};
use crate::names::NodeId;
use crate::status::Problem;

/// A node's place in the wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which node.
    pub node: NodeId,
    /// Why it comes at this place.
    pub why: String,
    /// What speaks against its restart as things stand now.
    pub against: Vec<Problem>,
}

/// Those that do not have the wish's release yet, in the order in which they activate it; empty without a wish.
pub fn order(view: &View) -> Vec<Place> {
    let place = |node: NodeId| Place {
        node,
        why: view.member(node).map(why).unwrap_or_default(),
        against: safety::against(view, node),
    };
    sequence(view).into_iter().map(place).collect()
}

/// The nodes in order.
pub(super) fn sequence(view: &View) -> Vec<NodeId> {
    let Some(wish) = &view.wish else { return Vec::new() };
    let open = view.meant(wish).filter(|(_, member)| !member.has(&wish.version));
    let mut nodes: Vec<_> =
        open.map(|(id, member)| (member.coordinator, leads(member).len(), id)).collect();
    nodes.sort_unstable();
    nodes.into_iter().map(|(.., id)| id).collect()
}

fn leads(member: &Member) -> BTreeSet<Leads> {
    member.word.as_ref().map(|word| word.leads.clone()).unwrap_or_default()
}

fn why(member: &Member) -> String {
    let leads: Vec<String> = leads(member).iter().map(Leads::to_string).collect();
    match (member.coordinator, leads.is_empty()) {
        (false, _) => "no coordinator".into(),
        (true, true) => "a coordinator that leads nothing".into(),
        (true, false) => format!("a coordinator that leads {}", leads.join(", ")),
    }
}
