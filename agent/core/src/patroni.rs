//! The coordinator's Patroni and the Postgres that it keeps: what it says of itself, the configuration that all
//! members share, and restarts of Postgres, one member after the other.
//!
//! Patroni elects the leader, and the subject `services` starts Patroni. What is left: the leader's agent mends the
//! shared configuration, which Patroni keeps in ZooKeeper and never takes from its file again; it gives Postgres'
//! accounts their passwords when they are replaced; and some changes wait until somebody restarts Postgres.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::names::{NodeId, NodeName};
use crate::quorum::{self, LEADER, Others, Witness};
use crate::secrets::Secret;
use crate::status::{Details, Lag, Problem, problem};
use crate::subject::{Plan, Subject};
use crate::turns::{self, Seen, Table};

pub mod answer; // what Patroni says of itself
pub mod scram; // what Postgres keeps in place of a password
#[cfg(test)]
mod tests;

pub use answer::Answer;

/// The port of Patroni's REST API, mutual TLS, on the cluster network.
pub const PORT: u16 = 8008;

/// The permission to start Patroni: without ZooKeeper it ends by itself, again and again.
pub const PERMIT: &str = "/run/trilith/permits/patroni";

/// Patroni on a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patroni;

/// Which database cluster this node belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// This node.
    pub node: NodeId,
    /// All coordinators. A node that is none of them has nothing to do.
    pub members: BTreeMap<NodeId, NodeName>,
    /// Whether a commit waits for a replica.
    pub synchronous: bool,
    /// What the shared configuration must say. What else it says is left alone.
    pub shared: Value,
    /// Postgres' TCP port, which also names its Unix socket.
    pub port: u16,
    /// The passwords that its accounts must have.
    #[serde(default)]
    pub accounts: BTreeMap<Account, Secret>,
}

/// An account of Postgres that Patroni uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Account {
    /// Everything.
    Postgres,
    /// What a replica streams by.
    Replicator,
    /// What a former leader is rewound by.
    Rewinder,
}

impl Account {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Replicator, Self::Rewinder];

    /// Its name in Postgres.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Replicator => "replicator",
            Self::Rewinder => "rewinder",
        }
    }
}

/// What the node shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Patroni on this node.
    pub server: Server,
    /// Of a leader: the accounts that have another password in the database than they must.
    #[serde(default)]
    pub stale: BTreeSet<Account>,
    /// Why its database could not be asked for that.
    #[serde(default)]
    pub unasked: Option<String>,
    /// Whether any coordinator's ZooKeeper serves, as far as this node knows.
    pub keeper: bool,
    /// Whether the permission to start is there.
    #[serde(default)]
    pub permit: bool,
    /// Where this node stands with its turn to restart Postgres. What is due follows from the answer.
    #[serde(default)]
    pub turn: Seen,
    /// The other coordinators.
    #[serde(default)]
    pub others: Others,
}

/// Patroni on this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// It does not answer, with the reason.
    Away(String),
    /// It answers.
    Up(Box<Answer>),
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Permit Patroni to start. It is not taken back: one that runs gets along without ZooKeeper for a while, and
    /// systemd starts it again by itself.
    Permit,
    /// Change the shared configuration, by a merge patch (RFC 7396).
    Configure(Value),
    /// Give an account its password, in the database.
    Password(Account),
    /// Something about the turn to restart.
    Turn(turns::Step),
    /// Restart this node's Postgres, through Patroni.
    Restart,
}

impl Subject for Patroni {
    const NAME: &'static str = "patroni";
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        let mut plan = Plan::default();
        if !desired.members.contains_key(&desired.node) {
            return plan;
        }
        plan.problems = reasons(desired, observed);
        plan.steps.extend((observed.keeper && !observed.permit).then_some(Step::Permit));
        plan.steps.extend(configure(desired, &observed.server).map(Step::Configure));
        plan.steps.extend(observed.stale.iter().copied().map(Step::Password));
        let role = role(&observed.server);
        let Desired { node: me, members, .. } = desired;
        let table = Table { members, me: *me, role, others: &observed.others };
        let due = is_due(observed);
        let turn = turns::plan(table, &Seen { due, ..observed.turn });
        plan.steps.extend(turn.steps.into_iter().map(Step::Turn));
        plan.problems.extend(turn.problems);
        plan.steps.extend((due && observed.turn.stand.holds).then_some(Step::Restart));
        plan
    }

    fn details(desired: &Desired, observed: &Observed) -> Details {
        if !desired.members.contains_key(&desired.node) {
            return Details::default();
        }
        let role = role(&observed.server).map(str::to_owned);
        let mut details =
            Details { role: role.clone(), turn: Some(observed.turn.stand), ..Details::default() };
        if let Server::Up(answer) = &observed.server {
            details.lag = answer.behind().map(|behind| Lag { behind, unit: "bytes".into() });
            details.more = more(answer);
        }
        for (id, name) in &desired.members {
            let word = match observed.others.get(id) {
                _ if *id == desired.node => role.clone().unwrap_or_else(|| state(&observed.server)),
                Some(Witness::Says(about)) => {
                    about.role.clone().unwrap_or_else(|| "not serving".into())
                }
                Some(Witness::Silent(_)) | None => "no answer".into(),
            };
            if word == LEADER {
                details.leader = Some(name.to_string());
            }
            details.members.insert(name.to_string(), word);
        }
        details
    }
}

/// What this member is, if it serves: a replica that does not stream is none.
fn role(server: &Server) -> Option<&'static str> {
    let Server::Up(answer) = server else { return None };
    match answer.state == "running" {
        true if answer.leads() => Some(LEADER),
        true if answer.replication.as_deref() != Some("streaming") => None,
        true if answer.synchronous => Some("sync standby"),
        true => Some("replica"),
        false => None,
    }
}

/// A word or two for a member without a role.
fn state(server: &Server) -> String {
    match server {
        Server::Away(_) => "not serving".into(),
        Server::Up(answer) if answer.state == "running" => "not streaming".into(),
        Server::Up(answer) => answer.state.clone(),
    }
}

/// What only Patroni has.
fn more(answer: &Answer) -> BTreeMap<String, String> {
    let timeline = answer.timeline.map(|timeline| timeline.to_string());
    let standbys = answer.replicas.iter().filter(|(_, sync)| is_synchronous(sync));
    let standbys: Vec<&str> = standbys.map(|(name, _)| name.as_str()).collect();
    let parts = [
        ("timeline", timeline),
        ("postgres since", answer.since.clone()),
        ("synchronous", (!standbys.is_empty()).then(|| standbys.join(", "))),
        ("paused", answer.paused.then(|| "yes".to_owned())),
    ];
    parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// `sync_state` of `pg_stat_replication`.
fn is_synchronous(sync: &str) -> bool {
    matches!(sync, "sync" | "quorum")
}

/// Why the member is not as it should be.
fn reasons(desired: &Desired, observed: &Observed) -> Vec<Problem> {
    let answer = match &observed.server {
        // Before it has reached ZooKeeper, Patroni opens no port.
        Server::Away(_) if !observed.keeper => {
            return vec![problem(
                "patroni.service",
                "waits for ZooKeeper, which has no quorum".into(),
            )];
        }
        Server::Away(reason) => return vec![problem("patroni.service", reason.clone())],
        Server::Up(answer) => answer,
    };
    let mut problems = Vec::new();
    if answer.state != "running" {
        problems.push(problem("postgres", format!("is {}", answer.state)));
    } else if let Some(reason) = unfollowed(answer) {
        problems.push(problem("replication", reason));
    }
    if answer.unlocked {
        problems.push(problem("leader", no_leader(desired, observed)));
    }
    if !answer.restart.is_empty() && !is_due(observed) {
        let names: Vec<&str> = answer.restart.keys().map(String::as_str).collect();
        let who = if answer.leads() { "the replicas come" } else { "the leader comes" };
        let reason = format!("must be restarted for {}; {who} first", names.join(", "));
        problems.push(problem("postgres", reason));
    }
    problems.extend(observed.unasked.clone().map(|reason| problem("accounts", reason)));
    let alone = answer.leads() && !answer.replicas.values().any(|sync| is_synchronous(sync));
    if alone && desired.synchronous && desired.members.len() > 1 {
        let reason =
            "no other member has every commit: were this one lost, the last commits would be too";
        problems.push(problem("replication", reason.into()));
    }
    problems
}

/// Why a replica that runs gets nothing.
fn unfollowed(answer: &Answer) -> Option<String> {
    let state = answer.replication.as_deref().unwrap_or("not begun");
    (!answer.leads() && state != "streaming").then(|| format!("does not stream: {state}"))
}

/// Nobody has the leader's lock in ZooKeeper.
fn no_leader(desired: &Desired, observed: &Observed) -> String {
    if !observed.keeper {
        return "nobody can be one: ZooKeeper has no quorum".into();
    }
    let others = desired.members.iter().filter(|(id, _)| **id != desired.node);
    let others = others.map(|(id, name)| match observed.others.get(id) {
        Some(Witness::Says(about)) => {
            format!("{name} is {}", about.role.as_deref().unwrap_or("not serving"))
        }
        Some(Witness::Silent(reason)) => format!("{name} does not answer: {reason}"),
        None => format!("{name} was not asked yet"),
    });
    let all: Vec<String> = others.collect();
    if all.is_empty() { "none yet".into() } else { format!("none yet: {}", all.join(", ")) }
}

/// What is to be changed in the shared configuration. The leader does it: one member, always the same for all.
fn configure(desired: &Desired, server: &Server) -> Option<Value> {
    let Server::Up(answer) = server else { return None };
    if !answer.leads() {
        return None;
    }
    difference(&desired.shared, answer.shared.as_ref()?)
}

/// The merge patch that puts `wanted` into `is`.
fn difference(wanted: &Value, is: &Value) -> Option<Value> {
    let (Value::Object(wanted), Value::Object(is)) = (wanted, is) else {
        return (wanted != is).then(|| wanted.clone());
    };
    let differing = wanted.iter().filter_map(|(key, wanted)| {
        Some((key.clone(), difference(wanted, is.get(key).unwrap_or(&Value::Null))?))
    });
    let differing: Map<String, Value> = differing.collect();
    (!differing.is_empty()).then_some(Value::Object(differing))
}

/// Whether Postgres here must be restarted, and may as far as the order of leader and replicas goes.
///
/// A replica must never have less of some parameters than its leader (PostgreSQL, "Hot Standby", 26.4.3): where they
/// grow, the leader comes last; where they shrink, it comes first, and a replica restarted before would keep the old
/// value.
fn is_due(observed: &Observed) -> bool {
    let Server::Up(answer) = &observed.server else { return false };
    let shrinks = answer.restart.values().all(|change| *change == Change::Shrinks);
    match answer.restart.is_empty() {
        true => false,
        false if answer.leads() => shrinks || answer.behind_configuration.is_empty(),
        false => !shrinks || !leader_asks(&observed.others),
    }
}

fn leader_asks(others: &Others) -> bool {
    let witness = quorum::leader(others).and_then(|leader| others.get(&leader));
    match witness {
        Some(Witness::Says(details)) => details.turn.is_some_and(|turn| turn.asks.is_some()),
        Some(Witness::Silent(_)) | None => false,
    }
}

/// What a restart is to change about one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It becomes smaller, and is one of those of which a replica must have as much as its leader.
    Shrinks,
    /// Anything else.
    Other,
}

/// What other members have not done yet of what must come before the leader's restart.
pub type Behind = BTreeSet<NodeId>;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permit => f.write_str("permit Patroni to start"),
            Self::Configure(patch) => write!(f, "change the shared configuration: {patch}"),
            Self::Password(account) => {
                write!(f, "give the account {} its password", account.name())
            }
            Self::Turn(step) => step.fmt(f),
            Self::Restart => f.write_str("restart Postgres"),
        }
    }
}
