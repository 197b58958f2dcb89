//! Where a cluster's quorums stand, asked of the services themselves and of the agents that watch over them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trilith_core::config::{NetworkName, Role};
use trilith_core::status::{NodeStatus, SubjectStatus};

use crate::lab::{Container, Lab};

pub mod ceph; // monitors, OSDs, the pool

/// How long a cluster may take to form or to come back before a test fails. The figures are judged elsewhere.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Patroni's own program needs the file that the agent renders, which the node's administrator may read.
const PATRONI: &str = "/run/trilith/patroni/patroni.yml";

/// Switches nodes on.
pub fn start(lab: &Lab, names: &[&str]) -> Result<()> {
    names.iter().try_for_each(|name| lab.start(name))
}

/// The names of the coordinators.
pub fn coordinators(lab: &Lab) -> Result<Vec<&str>> {
    let mut names = Vec::new();
    for node in lab.nodes() {
        if node.config()?.role == Role::Coordinator {
            names.push(node.name());
        }
    }
    Ok(names)
}

/// The coordinators.
pub fn nodes(lab: &Lab) -> Result<Vec<Container<'_>>> {
    coordinators(lab)?.into_iter().map(|name| lab.node(name)).collect()
}

/// The node's address on the cluster network.
pub fn address(node: &Container<'_>) -> Result<IpAddr> {
    let network = node.config()?.network(NetworkName::Cluster).context("no network")?;
    Ok(network.addresses.first().context("no address")?.address.addr())
}

/// Waits until everything that makes the cluster is there: networks, ZooKeeper, Ceph, Patroni, routing.
pub fn all_formed(lab: &Lab) -> Result<()> {
    let all = coordinators(lab)?;
    databases_serve(lab, &all)?;
    // Asked of the agents first: Ceph's own tool costs a second of a processor each time.
    for node in lab.nodes().filter(|node| node.disks().next().is_some()) {
        ceph::osds_are_active(&node)?;
    }
    ceph::storage_serves(lab, &all, lab.nodes().map(|node| node.disks().count()).sum())?;
    for node in lab.nodes() {
        node.until("all routing sessions are established", PATIENCE, || routes(&node, lab))?;
    }
    Ok(())
}

/// Waits until these coordinators serve together, and no other one does.
pub fn formed(lab: &Lab, members: &[&str]) -> Result<()> {
    databases_serve(lab, members)?;
    ceph::storage_serves(lab, members, members.len())
}

fn databases_serve(lab: &Lab, members: &[&str]) -> Result<()> {
    zookeeper_serves(lab, members)?;
    let asked = lab.node(members.first().context("no member")?)?;
    asked.until("Patroni has a leader and replicas", PATIENCE, || {
        patroni(&asked, members, usize::from(waits_for_a_replica(lab)))?;
        replicas_stream(lab, asked.name(), members.len() - 1)
    })
}

/// Asked of Postgres itself: what Patroni tells is what members last wrote into ZooKeeper, which outlives them for as
/// long as their sessions do, so also a power cut of all.
fn replicas_stream(lab: &Lab, asked: &str, wanted: usize) -> Result<()> {
    let question = "select count(*) filter (where state = 'streaming'), bool_or(sync_state = 'sync'), \
                    pg_is_in_recovery() from pg_stat_replication";
    let answer = sql(lab, asked, question)?;
    let sync = if waits_for_a_replica(lab) { 't' } else { 'f' };
    ensure!(answer.trim() == format!("{wanted}|{sync}|f"), "the leader's replicas: {answer}");
    Ok(())
}

/// Whether a commit waits for a replica.
fn waits_for_a_replica(lab: &Lab) -> bool {
    lab.cluster().config().settings.postgres.patroni.synchronous
}

/// Waits until the ZooKeeper servers of these nodes are in a quorum.
pub fn zookeeper_serves(lab: &Lab, members: &[&str]) -> Result<()> {
    for name in members {
        let node = lab.node(name)?;
        node.wait_status("ZooKeeper serves", PATIENCE, |status| {
            subject(status, "zookeeper").is_ok_and(|zookeeper| zookeeper.details.role.is_some())
        })?;
    }
    Ok(())
}

/// One leader, so many replicas in step with it, all others streaming.
fn patroni(node: &Container<'_>, members: &[&str], in_step: usize) -> Result<()> {
    let roles = database(node)?;
    let present: Vec<_> =
        roles.iter().filter(|(name, ..)| members.contains(&name.as_str())).collect();
    let count = |wanted: &str| present.iter().filter(|(_, role, _)| role == wanted).count();
    let streaming = present.iter().filter(|(.., state)| state == "streaming").count();
    ensure!(
        present.len() == members.len()
            && count("Leader") == 1
            && count("Sync Standby") == in_step
            && streaming + 1 == members.len(),
        "{roles:?}"
    );
    Ok(())
}

/// Name, role and state of each member, as Patroni says it.
fn database(node: &Container<'_>) -> Result<Vec<(String, String, String)>> {
    let text = node.shell(&format!("timeout 20 patronictl -c {PATRONI} list --format json"))?;
    let members: Vec<Value> = serde_json::from_str(&text).with_context(|| text.clone())?;
    let word = |member: &Value, key: &str| member[key].as_str().unwrap_or_default().to_owned();
    Ok(members.iter().map(|m| (word(m, "Member"), word(m, "Role"), word(m, "State"))).collect())
}

/// The coordinator whose Postgres takes writes, as `asked` knows it.
pub fn database_leader<'a>(lab: &'a Lab, asked: &str) -> Result<Container<'a>> {
    let members = database(&lab.node(asked)?)?;
    let leader = members.into_iter().find(|(_, role, _)| role == "Leader").context("no leader")?;
    lab.node(&leader.0)
}

/// Runs SQL on the leader and returns what it prints.
pub fn sql(lab: &Lab, asked: &str, statement: &str) -> Result<String> {
    database_leader(lab, asked)?.shell(&format!(
        "runuser -u postgres -- psql --host=/run/patroni --no-psqlrc -v ON_ERROR_STOP=1 -Atqc \"{statement}\""
    ))
}

/// Coordinators have a session with every other node, the others with every coordinator.
fn routes(node: &Container<'_>, lab: &Lab) -> Result<()> {
    let all = coordinators(lab)?;
    let wanted = if all.contains(&node.name()) { lab.names().len() - 1 } else { all.len() };
    let text = node.shell("vtysh -c 'show bgp summary established json'")?;
    let summary: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    // By family; a session is in each that it carries.
    let families = summary.as_object().into_iter().flat_map(serde_json::Map::values);
    let peers: BTreeSet<&String> =
        families.filter_map(|it| it["peers"].as_object()).flat_map(serde_json::Map::keys).collect();
    ensure!(peers.len() == wanted, "{} sessions of {wanted}", peers.len());
    Ok(())
}

/// The coordinator whose ZooKeeper leads; an error unless there is exactly one.
pub fn leader(lab: &Lab) -> Result<String> {
    let mut leaders = Vec::new();
    for name in coordinators(lab)? {
        let status = lab.node(name)?.status()?;
        if subject(&status, "zookeeper")?.details.role.as_deref() == Some("leader") {
            leaders.push(name);
        }
    }
    ensure!(leaders.len() == 1, "leaders: {leaders:?}");
    Ok(leaders[0].to_owned())
}

/// What a node says of one subject.
pub fn subject<'a>(status: &'a NodeStatus, name: &str) -> Result<&'a SubjectStatus> {
    status.subjects.get(name).with_context(|| format!("no subject {name}"))
}
