//! Where the machines of a node go before it restarts, and which of them cannot go anywhere.
//!
//! Best fit: large machines choose first, and each takes the node with the least room that is enough for it, so that large
//! rooms are left for large machines. Nodes that have the wave's release behind themselves come first, since a machine
//! there has moved for the last time in this wave. When not all find a place so, that preference is given up. It follows
//! from what is seen alone: whoever looks decides the same.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::health::Machines;
use super::{Member, Wish};
use crate::evacuate::Move;
use crate::machines::{Hosting, Machine, size};
use crate::names::{NodeId, NodeName};

/// A node that machines may come to.
#[derive(Clone, Copy)]
struct Place<'a> {
    name: &'a NodeName,
    hosting: &'a Hosting,
    /// Whether its upgrade is behind it.
    done: bool,
    /// What is left of its room.
    room: u64,
}

/// The machines of a node, and where they go. `None`: libvirt does not answer there.
pub(super) fn machines(
    nodes: &BTreeMap<NodeId, Member>,
    from: NodeId,
    wish: Option<&Wish>,
) -> Option<Machines> {
    let own = nodes.get(&from).filter(|member| member.silent.is_none());
    let parts = &own?.word.as_ref()?.parts;
    let Some(hosting) = &parts.hosting else { return parts.machines.map(untold) };
    let places = places(nodes, from, wish);
    let first = assign(hosting, places.clone(), true);
    if first.stuck.is_empty() {
        return Some(first);
    }
    let other = assign(hosting, places, false);
    Some(if other.stuck.len() < first.stuck.len() { other } else { first })
}

/// Nobody knows what they are: the release there says how many, and no more.
fn untold(running: u32) -> Machines {
    let why = "the release that runs here does not tell what they are: move them by hand";
    let stuck = (running > 0).then(|| (format!("each of {running} machines"), why.to_owned()));
    Machines { running, stuck: stuck.into_iter().collect(), moves: Vec::new() }
}

/// All others that answer, run a proven release, and are not left out.
fn places<'a>(
    nodes: &'a BTreeMap<NodeId, Member>,
    from: NodeId,
    wish: Option<&Wish>,
) -> BTreeMap<NodeId, Place<'a>> {
    let left_out = |id: &NodeId| wish.is_some_and(|wish| wish.without.contains(id));
    let place = |(id, member): (&NodeId, &'a Member)| {
        let hosting = member.word.as_ref()?.parts.hosting.as_ref()?;
        let done = wish.is_some_and(|wish| member.has(&wish.version));
        let place = Place { name: &member.name, hosting, done, room: hosting.room };
        (*id != from && !left_out(id) && member.is_sound()).then_some((*id, place))
    };
    nodes.iter().filter_map(place).collect()
}

/// Gives each machine a place. `prefer`: where the upgrade is done, as long as there is room.
fn assign(own: &Hosting, mut places: BTreeMap<NodeId, Place<'_>>, prefer: bool) -> Machines {
    let mut all: Vec<(&String, &Machine)> = own.machines.iter().collect();
    all.sort_by_key(|(uuid, machine)| (Reverse(machine.memory), &machine.name, *uuid));
    let running = u32::try_from(all.len()).unwrap_or(u32::MAX);
    let mut machines = Machines { running, ..Machines::default() };
    for (uuid, machine) in all {
        match choose((uuid, machine), own, &places, prefer) {
            Ok((id, takes)) => {
                let Some(place) = places.get_mut(&id) else { continue };
                place.room = place.room.saturating_sub(takes);
                let (name, to) = (machine.name.clone(), place.name.clone());
                machines.moves.push(Move { machine: uuid.clone(), name, to });
            }
            Err(why) => _ = machines.stuck.insert(machine.name.clone(), why),
        }
    }
    machines
}

/// Where one goes, and how much it takes there.
///
/// # Errors
/// Why it cannot go anywhere.
fn choose(
    (uuid, machine): (&String, &Machine),
    own: &Hosting,
    places: &BTreeMap<NodeId, Place<'_>>,
    prefer: bool,
) -> Result<(NodeId, u64), String> {
    if let Some(why) = &machine.stuck {
        return Err(why.clone());
    }
    // On its way it is seen on both nodes, and has its room on the other one already.
    if let Some((id, _)) = places.iter().find(|(_, it)| it.hosting.machines.contains_key(uuid)) {
        return Ok((*id, 0));
    }
    let mut left: Vec<(NodeId, Place<'_>)> = places.iter().map(|(id, it)| (*id, *it)).collect();
    if left.is_empty() {
        return Err("no other node answers, runs a proven release and tells of its room".into());
    }
    left.retain(|(_, it)| it.hosting.qemu >= own.qemu);
    if left.is_empty() {
        return Err("QEMU is older on every other node".into());
    }
    left.retain(|(_, it)| !machine.passthrough || same_processor(own, it.hosting));
    if left.is_empty() {
        return Err("it has this node's processor as it is, and no other node has the same".into());
    }
    left.retain(|(_, it)| it.hosting.cpus >= machine.cpus);
    if left.is_empty() {
        return Err(format!("it has {} CPUs, and no other node has as many", machine.cpus));
    }
    let takes = machine.takes();
    let most = left.iter().max_by_key(|(id, it)| (it.room, *id)).copied();
    left.retain(|(_, it)| it.room >= takes);
    let best = left.iter().min_by_key(|(id, it)| (prefer && !it.done, it.room, *id));
    best.map(|(id, _)| (*id, takes)).ok_or_else(|| no_room(takes, most.map(|(_, it)| it)))
}

fn same_processor(own: &Hosting, other: &Hosting) -> bool {
    own.processor.is_some() && own.processor == other.processor
}

fn no_room(takes: u64, most: Option<Place<'_>>) -> String {
    let most = most.map(|it| format!(", the most is {} on {}", size(it.room), it.name));
    format!(
        "it takes {}, and no other node has as much left{}",
        size(takes),
        most.unwrap_or_default()
    )
}
