//! From what was and what is to a verdict.

use std::collections::BTreeSet;

use crate::status::{NodeStatus, State};

use super::{Before, Link, Now, Parts, Verdict};

/// What is missing: by itself, or because of the others.
#[derive(Default)]
struct Missing {
    /// What no other node can take away: whatever happens elsewhere, this is this boot's own fault.
    own: Vec<String>,
    /// What needs others.
    shared: Vec<String>,
}

/// Judges a boot on trial.
///
/// A node that sees nobody of those whom it saw before is cut off, and so is one none of whose links has carrier, and one
/// that lacks what needs others and sees fewer than most of them; unless something of its own is missing, or its services
/// meet other nodes, it may be the site that is gone.
pub fn judge(before: &Before, now: &Now) -> Verdict {
    let mut missing = Missing::default();
    if !now.booted {
        missing.own.push("boot: units of this boot have not started yet".into());
    }
    let Some(status) = &now.status else {
        let why = now.silent.as_deref().unwrap_or("nobody has asked it");
        missing.own.push(format!("agent: it does not answer: {why}"));
        return Verdict::Waiting { reasons: missing.own };
    };
    let is = Parts::of(status, &now.links);
    let was = &before.parts;
    host(was, &is, status, now, &mut missing);
    quorums(was, &is, status, &mut missing);
    let unplugged = unplugged(was, &is, now);
    if unplugged.is_none() {
        agents(was, &is, &mut missing);
    }
    if missing.own.is_empty()
        && let Some(reason) =
            unplugged.or_else(|| cut_off(was, &is)).or_else(|| too_few(was, &is, &missing))
    {
        return Verdict::Inconclusive { reason };
    }
    let reasons: Vec<String> = missing.own.into_iter().chain(missing.shared).collect();
    if reasons.is_empty() { Verdict::Proven } else { Verdict::Waiting { reasons } }
}

/// What the node has by itself.
fn host(was: &Parts, is: &Parts, status: &NodeStatus, now: &Now, missing: &mut Missing) {
    if let Some(name) = was.node.as_ref().filter(|_| is.node.is_none()) {
        missing.own.push(format!("node: it was {name} before and does not know now who it is"));
    }
    let network = subject(was.network.as_ref(), true, status, "network");
    // Where a cable has gone, the network cannot be what it was: that may be the site.
    let lost = was.links.iter().any(|name| now.links.get(name) == Some(&Link::NoCarrier));
    if lost { &mut missing.shared } else { &mut missing.own }.extend(network);
    // A service may wait for other nodes before it runs.
    missing.shared.extend(subject(was.services.as_ref(), false, status, "services"));
    if was.libvirt && !is.libvirt {
        let state = state(status, "libvirt");
        missing.own.push(format!("libvirt: it answered before and does not now{state}"));
    } else if was.kvm && !is.kvm {
        let kvm = status.subjects.get("libvirt").and_then(|it| it.details.more.get("kvm"));
        let kvm = kvm.map(|word| format!(": it {word}")).unwrap_or_default();
        missing.own.push(format!("libvirt: KVM worked before and does not now{kvm}"));
    }
}

/// What a subject that was without steps lacks now: it has steps left, or problems that are new.
fn subject(
    was: Option<&BTreeSet<String>>,
    always: bool,
    status: &NodeStatus,
    name: &str,
) -> Vec<String> {
    if was.is_none() && !always {
        return Vec::new();
    }
    let Some(subject) = status.subjects.get(name) else {
        return vec![format!("{name}: the agent does not speak of it")];
    };
    match (&subject.state, was) {
        (State::Converged, _) | (State::Degraded { .. }, None) => Vec::new(),
        (State::Degraded { problems }, Some(was)) => {
            let new = problems.iter().filter(|problem| !was.contains(&problem.object));
            new.map(|problem| format!("{name}: {problem}; it was right before")).collect()
        }
        (State::Waiting { .. } | State::Running | State::Retry { .. }, _) => {
            vec![format!("{name}: it is not up yet{}", state(status, name))]
        }
    }
}

/// What it has together with others.
fn quorums(was: &Parts, is: &Parts, status: &NodeStatus, missing: &mut Missing) {
    let lost = |was: &Option<String>, is: &Option<String>| was.is_some() && is.is_none();
    let mut say = |name: &str, what: &str| {
        missing.shared.push(format!("{name}: {what} before and is not now{}", state(status, name)));
    };
    if lost(&was.zookeeper, &is.zookeeper) {
        say("zookeeper", "this node's server was in the ensemble");
    }
    if lost(&was.ceph, &is.ceph) {
        say("ceph", "this node's monitor was in quorum");
    }
    if lost(&was.patroni, &is.patroni) {
        say("patroni", "this node's Postgres led or streamed");
    }
    for number in was.osds.difference(&is.osds) {
        say("osds", &format!("OSD {number} was up"));
    }
    for name in was.bgp.difference(&is.bgp).filter(|name| !excused(name, was, is, status)) {
        say("frr", &format!("the session with {name} was established"));
    }
}

/// Whether a session may be missing: nobody has one with a node that is gone, and a router may have died meanwhile, as
/// long as there is a session with another.
fn excused(name: &String, was: &Parts, is: &Parts, status: &NodeStatus) -> bool {
    let node = |name: &String| was.peers.contains(name) || status.peers.contains_key(name);
    if node(name) {
        return was.peers.contains(name) && !is.peers.contains(name);
    }
    is.bgp.iter().any(|other| !node(other))
}

/// Whether other agents do not speak with this one although their nodes are there.
fn agents(was: &Parts, is: &Parts, missing: &mut Missing) {
    if was.peers.is_empty() || !was.peers.is_disjoint(&is.peers) {
        return;
    }
    if let Some(service) = meets_others(was, is) {
        let peers = list(&was.peers);
        missing.own.push(format!(
            "agents: {peers} answered before and none does now, though it meets other nodes by {service}"
        ));
    }
}

/// A service that has a part which nobody can have alone.
fn meets_others(was: &Parts, is: &Parts) -> Option<&'static str> {
    let session = (!was.peers.is_disjoint(&is.bgp)).then_some("frr");
    in_quorum(is).or(session)
}

/// A service that is part of a quorum with other nodes.
fn in_quorum(is: &Parts) -> Option<&'static str> {
    let quorums = [
        ("zookeeper", &is.zookeeper, "standalone"),
        ("ceph", &is.ceph, "leader"),
        ("patroni", &is.patroni, "leader"),
    ];
    let among = |role: &Option<String>, alone| role.as_ref().is_some_and(|role| role != alone);
    let quorum = quorums.into_iter().find(|(_, role, alone)| among(role, *alone));
    // An OSD is up by the word of monitors: of others, unless this node's own may be the only one.
    let osds = (is.ceph.is_none() && !is.osds.is_empty()).then_some("osds");
    quorum.map(|(name, ..)| name).or(osds)
}

/// What the agent says of a subject that has not converged.
fn state(status: &NodeStatus, name: &str) -> String {
    match status.subjects.get(name).map(|subject| &subject.state) {
        None | Some(State::Converged | State::Running) => String::new(),
        Some(state) => format!(" ({state})"),
    }
}

/// That nothing is connected any more.
fn unplugged(was: &Parts, is: &Parts, now: &Now) -> Option<String> {
    let unplugged = |link: &Link| *link == Link::NoCarrier;
    let all = !was.links.is_empty() && is.links.is_empty() && now.links.values().any(unplugged);
    all.then(|| format!("no link has carrier; before, {} had", list(&was.links)))
}

/// Why it looks as if everybody was gone.
fn cut_off(was: &Parts, is: &Parts) -> Option<String> {
    let all = !was.peers.is_empty() && was.peers.is_disjoint(&is.peers);
    all.then(|| format!("no other node answers; before, {} did", list(&was.peers)))
}

/// That most of those whom it met are gone: what needs them cannot come back, whatever the release is like. A node is there
/// if its agent answers or a session with it stands, and who is in a quorum has most of them: that a release keeps agents
/// from each other is not taken for their absence.
fn too_few(was: &Parts, is: &Parts, missing: &Missing) -> Option<String> {
    let there: BTreeSet<String> = is.peers.union(&is.bgp).cloned().collect();
    let gone: BTreeSet<String> = was.peers.difference(&there).cloned().collect();
    let (all, here) = (was.peers.len() + 1, was.peers.len() + 1 - gone.len());
    let enough = here > all / 2 || in_quorum(is).is_some();
    (!enough && !missing.shared.is_empty()).then(|| {
        format!("{here} of {all} are there, too few for a quorum; {} answered before", list(&gone))
    })
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
