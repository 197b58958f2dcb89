//! What speaks against a node's restart: every quorum, the data and the machines, with reasons.

use super::health::{Ceph, Database, Health, Machines, Patroni, Server};
use super::{Member, View};
use crate::names::NodeId;
use crate::status::{Problem, problem};

/// A coordinator's own parts of the services. One that is missing when the gate writes down what the node is part of, such as
/// a Postgres that is rewound behind a switchover, would not be missed on the new release either.
fn own(view: &View, me: NodeId) -> Vec<Problem> {
    if !coordinates(view, me) {
        return Vec::new();
    }
    let Health { zookeeper, ceph, patroni, machines: _ } = &view.health;
    let database = patroni.as_ref().and_then(|patroni| patroni.members.get(&me));
    let away = matches!(database, None | Some(Database::Away));
    // Of Ceph that does not answer nothing is known.
    let out = ceph.as_ref().is_some_and(|ceph| !ceph.quorum.contains(&me));
    [
        (!zookeeper.contains_key(&me), "ZooKeeper", "this node's own server does not serve"),
        (out, "Ceph's monitors", "this node's own is not in quorum"),
        (away, "Patroni", "this node's own Postgres neither leads nor streams"),
    ]
    .into_iter()
    .filter(|(missing, ..)| *missing)
    .map(|(_, object, reason)| problem(object, reason.into()))
    .collect()
}

/// How many of so many are a majority.
fn majority(of: usize) -> usize {
    of / 2 + 1
}

/// What speaks against the restart of this node, empty if nothing does. That it leads Patroni is no reason as long as
/// there is a successor.
pub(super) fn against(view: &View, me: NodeId) -> Vec<Problem> {
    let mut reasons: Vec<Problem> = sound(view, me).into_iter().collect();
    reasons.extend(zookeeper(view, me));
    reasons.extend(ceph(view, me));
    reasons.extend(patroni(view, me));
    reasons.extend(machines(view, me));
    reasons.extend(restarts(view));
    reasons.extend(own(view, me));
    reasons
}

/// The coordinators beside this one.
fn others(view: &View, me: NodeId) -> impl Iterator<Item = (NodeId, &Member)> {
    let other = move |(id, member): &(&NodeId, &Member)| member.coordinator && **id != me;
    view.nodes.iter().filter(other).map(|(id, member)| (*id, member))
}

fn coordinators(view: &View) -> usize {
    view.nodes.values().filter(|member| member.coordinator).count()
}

fn coordinates(view: &View, me: NodeId) -> bool {
    view.member(me).is_some_and(|member| member.coordinator)
}

/// A single coordinator has no quorum that could stay without it.
fn has_peers(view: &View, me: NodeId) -> bool {
    coordinates(view, me) && coordinators(view) > 1
}

/// Most coordinators must be there with a proven release while this one is away.
fn sound(view: &View, me: NodeId) -> Option<Problem> {
    if !has_peers(view, me) {
        return None;
    }
    let sound = others(view, me).filter(|(_, member)| member.is_sound()).count();
    let (all, needed) = (coordinators(view), majority(coordinators(view)));
    let reason = format!(
        "without this node {sound} of {all} answer with a proven release, and {needed} are needed"
    );
    (sound < needed).then(|| problem("coordinators", reason))
}

/// Coordinators restart their parts of a service by turns of their own, which know nothing of the wave: with a node that
/// restarts as a whole a second part would be away.
fn restarts(view: &View) -> Vec<Problem> {
    let answers = view.nodes.values().filter(|member| member.silent.is_none());
    let each = |member: &Member| {
        let restarts = member.word.as_ref().map(|word| word.parts.restarts.clone());
        let name = member.name.clone();
        let reason = |(service, word)| problem(name.as_str(), format!("{word} {service}"));
        restarts.into_iter().flatten().map(reason).collect::<Vec<_>>()
    };
    answers.flat_map(each).collect()
}

fn zookeeper(view: &View, me: NodeId) -> Option<Problem> {
    let servers = &view.health.zookeeper;
    if !servers.values().any(|server| *server == Server::Leader) {
        return Some(problem("ZooKeeper", "nobody is seen to lead it".into()));
    }
    if !has_peers(view, me) {
        return None;
    }
    let synced = |(id, _): &(NodeId, &Member)| {
        matches!(servers.get(id), Some(Server::Leader | Server::Follower))
    };
    let there = others(view, me).filter(synced).count();
    let (all, needed) = (coordinators(view), majority(coordinators(view)));
    let missing: Vec<String> = others(view, me)
        .filter(|other| !synced(other))
        .map(|(id, member)| {
            let word = if servers.contains_key(&id) { "is behind" } else { "is away" };
            format!("{} {word}", member.name)
        })
        .collect();
    let reason = format!(
        "without this node {there} of {all} servers are up to date, and {needed} are needed: {}",
        missing.join(", ")
    );
    (there < needed).then(|| problem("ZooKeeper", reason))
}

fn ceph(view: &View, me: NodeId) -> Vec<Problem> {
    let Some(ceph) = &view.health.ceph else {
        return vec![problem("Ceph", "its monitors do not answer".into())];
    };
    let mut reasons: Vec<Problem> = monitors(view, ceph, me).into_iter().collect();
    if ceph.osds.get(&me).is_some_and(|count| *count > 0) {
        reasons.extend(placement(ceph));
        reasons.extend(stop(ceph, me));
    }
    reasons
}

fn monitors(view: &View, ceph: &Ceph, me: NodeId) -> Option<Problem> {
    if !has_peers(view, me) {
        return None;
    }
    let there = others(view, me).filter(|(id, _)| ceph.quorum.contains(id)).count();
    let (all, needed) = (coordinators(view), majority(coordinators(view)));
    let reason =
        format!("without this node {there} of {all} are in quorum, and {needed} are needed");
    (there < needed).then(|| problem("Ceph's monitors", reason))
}

fn placement(ceph: &Ceph) -> Option<Problem> {
    let unclean = ceph.unclean.iter().filter(|(_, count)| **count > 0);
    let words: Vec<String> = unclean.map(|(state, count)| format!("{count} {state}")).collect();
    let reason = format!("placement groups are not active and clean: {}", words.join(", "));
    (!words.is_empty()).then(|| problem("Ceph", reason))
}

fn stop(ceph: &Ceph, me: NodeId) -> Option<Problem> {
    let reason = match ceph.stop.get(&me).map(String::as_str) {
        Some("") => return None,
        Some(why) => format!("its OSDs may not stop: {why}"),
        None => "whether its OSDs may stop is not known yet".to_owned(),
    };
    Some(problem("Ceph", reason))
}

fn patroni(view: &View, me: NodeId) -> Option<Problem> {
    if !has_peers(view, me) {
        return None;
    }
    let reason = match &view.health.patroni {
        None => "none of its members answers".to_owned(),
        Some(patroni) if patroni.paused => {
            "it is paused: nobody would take a lost leader's place".into()
        }
        Some(patroni) if leads(patroni, me) => successor(view, patroni, me).err()?,
        Some(patroni) if !patroni.members.values().any(|it| *it == Database::Leader) => {
            "it has no leader".into()
        }
        // Who stays behind must be able to take the leader's place, and a commit must find a replica to wait for.
        Some(patroni) => {
            let others = patroni.members.iter().filter(|(id, _)| **id != me);
            let stays = others.into_iter().any(|(_, it)| streams(patroni, *it));
            if stays {
                return None;
            }
            "no other replica streams closely".into()
        }
    };
    Some(problem("Patroni", reason))
}

/// Whether this node leads Postgres.
pub(super) fn leads(patroni: &Patroni, me: NodeId) -> bool {
    patroni.members.get(&me) == Some(&Database::Leader)
}

/// Whether a member is a replica that has nearly all.
fn streams(patroni: &Patroni, it: Database) -> bool {
    match it {
        Database::Synchronous => true,
        Database::Streams(behind) => behind <= patroni.max_lag,
        Database::Leader | Database::Away => false,
    }
}

/// Who takes the leader's place: a replica for which commits wait, if there are such; else one that is close. One that
/// has its upgrade behind itself comes first, so that the leadership moves once.
///
/// # Errors
/// Why there is none.
pub(super) fn successor(view: &View, patroni: &Patroni, me: NodeId) -> Result<NodeId, String> {
    let fits = |it: Database| match it {
        Database::Synchronous => true,
        _ if patroni.synchronous => false,
        it => streams(patroni, it),
    };
    let others = patroni.members.iter().filter(|(id, it)| **id != me && fits(**it));
    let sound = others.filter(|(id, _)| view.member(**id).is_some_and(Member::is_sound));
    let done = |id: NodeId| {
        let version = view.wish.as_ref().map(|wish| &wish.version);
        version.is_some_and(|version| view.member(id).is_some_and(|member| member.has(version)))
    };
    let first = sound.map(|(id, _)| *id).min_by_key(|id| (!done(*id), *id));
    first.ok_or_else(|| {
        let what =
            if patroni.synchronous { "no synchronous replica" } else { "no replica close behind" };
        format!("this node leads it, and there is {what} to take its place")
    })
}

fn machines(view: &View, me: NodeId) -> Option<Problem> {
    let reason = match view.health.machines.get(&me) {
        None => "libvirt does not answer".to_owned(),
        Some(Machines { running: 0, .. }) => return None,
        Some(Machines { stuck, .. }) if !stuck.is_empty() => {
            let words = stuck.iter().map(|(name, why)| format!("{name} cannot move: {why}"));
            words.collect::<Vec<_>>().join(", ")
        }
        Some(_) => return None,
    };
    Some(problem("machines", reason))
}
