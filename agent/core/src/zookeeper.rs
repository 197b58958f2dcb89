//! The coordinator's ZooKeeper server: when its data directory may be prepared, and so when it may start.
//!
//! The subject `services` starts the server; this one gives the permission, a file that is gone at each boot. ZooKeeper runs
//! with `db.autocreate=false`: a server with an empty directory then neither votes nor is counted until it has
//! got the data from a quorum, unless it finds the file `initialize` (ZooKeeper Administrator's Guide,
//! "initialize"; `FastLeaderElection` ignores votes with zxid -1). Measured with 3.9.3: three empty servers
//! without the file never form; a wiped one joins a quorum of two; two wiped ones and one with data never form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{NodeId, NodeName};
use crate::quorum::{self, Data, Decision, Others};
use crate::status::{Details, Lag, Problem, problem};
use crate::subject::{Plan, Subject};
use crate::turns::{self, Seen, Table};

pub mod answer; // what a server says to `srvr`
#[cfg(test)]
mod tests;

/// The data directory (`dataDir` in zoo.cfg).
pub const DIRECTORY: &str = "/var/lib/zookeeper";

/// The permission to start the server, for as long as the machine runs: what `zookeeper.service` needs.
pub const PERMIT: &str = "/run/trilith/permits/zookeeper";

/// The port of clients, TLS only (`secureClientPort`).
pub const CLIENT_PORT: u16 = 2281;

/// ZooKeeper on a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZooKeeper;

/// Which ensemble this node belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// This node; its ID is the server's number.
    pub node: NodeId,
    /// All coordinators. A node that is none of them has nothing to do.
    pub members: BTreeMap<NodeId, NodeName>,
    /// The cluster's identity, a UUID (its fsid): what marks a data directory as this cluster's.
    pub cluster: String,
}

/// What the node shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// The data directory.
    pub directory: Directory,
    /// Whether the permission to start is there.
    pub permit: bool,
    /// The server on this node.
    pub server: Server,
    /// Where this node stands with its turn to restart it.
    #[serde(default)]
    pub turn: Seen,
    /// The other coordinators.
    #[serde(default)]
    pub others: Others,
}

/// What is in the data directory. A directory that is missing is an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Directory {
    /// The identity in the file `cluster`, which this subject writes.
    pub cluster: Option<String>,
    /// The server's number in the file `myid`.
    pub myid: Option<String>,
    /// Whether the file `initialize` is there: an empty database may vote. The server removes it.
    pub initialize: bool,
    /// The last epoch of a leader that the server accepted (`version-2/currentEpoch`): -1 before it had data, 0
    /// before its first quorum.
    pub epoch: Option<i64>,
    /// Snapshots and logs in `version-2`, by name.
    pub files: BTreeSet<String>,
}

/// The server on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// Nothing listens, or it does not speak as it should, with the reason.
    Away(String),
    /// It runs and is part of no quorum.
    Alone,
    /// It serves clients.
    Serving {
        /// `leader`, `follower` or `observer`.
        role: String,
        /// The last transaction that it has applied.
        zxid: u64,
        /// The leader's, asked at the same time, when another node leads.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leader: Option<u64>,
    },
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take the permission back.
    Forbid,
    /// Remove what a server without data left in `version-2`: with the file `initialize` it would not start.
    Clear,
    /// Remove a left-over file `initialize`.
    Uninitialize,
    /// Mark the directory as this cluster's.
    Mark(String),
    /// Allow the empty database to vote.
    Initialize,
    /// Write the server's number.
    Number(NodeId),
    /// Give the permission to start.
    Permit,
    /// Something about the turn to restart.
    Turn(turns::Step),
}

impl Subject for ZooKeeper {
    const NAME: &'static str = "zookeeper";
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        let mut plan = Plan::default();
        if !desired.members.contains_key(&desired.node) {
            plan.steps.extend(observed.permit.then_some(Step::Forbid));
            return plan;
        }
        match data(desired, &observed.directory) {
            Data::Foreign { reason } => {
                plan.steps.extend(observed.permit.then_some(Step::Forbid));
                plan.problems.push(problem(
                    DIRECTORY,
                    format!("{reason}; it is left alone, and ZooKeeper is not started"),
                ));
            }
            Data::Empty => empty(desired, observed, &mut plan),
            Data::Founding | Data::Present { .. } => keep(desired, observed, &mut plan),
        }
        let Desired { node: me, members, .. } = desired;
        let role = observed.server.role();
        let table = Table { members, me: *me, role, others: &observed.others };
        let turn = turns::plan(table, &observed.turn);
        plan.steps.extend(turn.steps.into_iter().map(Step::Turn));
        plan.problems.extend(turn.problems);
        plan
    }

    fn details(desired: &Desired, observed: &Observed) -> Details {
        if !desired.members.contains_key(&desired.node) {
            return Details::default();
        }
        let role = observed.server.role().map(str::to_owned);
        let mut details = Details {
            data: Some(data(desired, &observed.directory)),
            role: role.clone(),
            lag: observed.server.lag(),
            turn: Some(observed.turn.stand),
            ..Details::default()
        };
        if let Server::Serving { zxid, .. } = observed.server {
            details.more.insert("zxid".into(), format!("{zxid:#x}"));
        }
        for (id, name) in &desired.members {
            let word = match observed.others.get(id) {
                _ if *id == desired.node => role.clone().unwrap_or_else(|| "not serving".into()),
                Some(witness) => witness.word(),
                None => "no answer".into(),
            };
            if word == "leader" {
                details.leader = Some(name.to_string());
            }
            details.members.insert(name.to_string(), word);
        }
        details
    }
}

impl Server {
    fn role(&self) -> Option<&str> {
        match self {
            Self::Serving { role, .. } => Some(role),
            Self::Away(_) | Self::Alone => None,
        }
    }

    /// How far it is behind the leader. A number of transactions means something within one epoch, the upper
    /// half of a zxid.
    fn lag(&self) -> Option<Lag> {
        let Self::Serving { zxid, leader: Some(leader), .. } = self else { return None };
        let same_epoch = zxid >> 32 == leader >> 32;
        let behind = leader.saturating_sub(*zxid);
        same_epoch.then(|| Lag { behind, unit: "transactions".into() })
    }
}

/// What the data directory holds, as the others are told.
pub fn data(desired: &Desired, directory: &Directory) -> Data {
    let own = desired.node.to_string();
    let foreign = |reason: String| Data::Foreign { reason };
    match (&directory.cluster, &directory.myid) {
        (Some(cluster), _) if *cluster != desired.cluster => foreign(format!(
            "it belongs to the cluster {cluster}, and this one is {}",
            desired.cluster
        )),
        (_, Some(myid)) if *myid != own => {
            foreign(format!("it belongs to server {myid}, and this is server {own}"))
        }
        (None, _) if directory.has_database() => {
            foreign("it has a database, and no file `cluster` says whose".into())
        }
        _ if directory.had_quorum() => Data::Present { cluster: desired.cluster.clone() },
        _ if directory.has_database() || directory.initialize => Data::Founding,
        _ => Data::Empty,
    }
}

impl Directory {
    fn has_database(&self) -> bool {
        !self.files.is_empty()
    }

    /// Prepared, and not yet marked by a server that found nothing to begin with (epoch -1).
    fn is_begun(&self) -> bool {
        self.cluster.is_some() && self.myid.is_some() && self.epoch.is_none()
    }

    /// A database that was never part of a quorum is the empty snapshot of the founding and epoch 0.
    fn had_quorum(&self) -> bool {
        let more = self.files.iter().any(|file| file != "snapshot.0");
        self.has_database() && (more || self.epoch.is_some_and(|epoch| epoch > 0))
    }
}

/// Nothing in the directory: form, join, or wait.
fn empty(desired: &Desired, observed: &Observed, plan: &mut Plan<Step>) {
    let number = Step::Number(desired.node);
    let mark = Step::Mark(desired.cluster.clone());
    match quorum::decide(&desired.members, desired.node, &observed.others) {
        Decision::Wait(reasons) => plan.problems.extend(reasons),
        // The server has just taken `initialize` away, and its database is not there yet.
        Decision::Form if observed.permit && observed.directory.is_begun() => {
            plan.problems.extend(serving(desired, observed));
        }
        // The server may already run, with what was removed under it, and would not look for `initialize` again.
        // If the others found without this one, it joins them.
        Decision::Form if observed.permit => plan.problems.push(problem(
            "quorum",
            "every coordinator has lost its data since this one was allowed to join; restart this node to found anew"
                .into(),
        )),
        Decision::Form => {
            let clear = observed.directory.epoch.is_some().then_some(Step::Clear);
            plan.steps.extend(clear);
            plan.steps.extend([mark, Step::Initialize, number, Step::Permit]);
        }
        Decision::Join => {
            let directory = &observed.directory;
            plan.steps.extend(directory.cluster.is_none().then_some(mark));
            plan.steps.extend(directory.myid.is_none().then_some(number));
            plan.steps.extend((!observed.permit).then_some(Step::Permit));
            plan.problems.extend(serving(desired, observed));
        }
    }
}

/// A directory with something in it that is this server's own.
fn keep(desired: &Desired, observed: &Observed, plan: &mut Plan<Step>) {
    let directory = &observed.directory;
    // The founding was broken off before the server's number was written, and meanwhile the others have gone on.
    if directory.myid.is_none() && !directory.has_database() {
        plan.steps.push(Step::Uninitialize);
        return;
    }
    plan.steps.extend(directory.cluster.is_none().then(|| Step::Mark(desired.cluster.clone())));
    plan.steps.extend(directory.myid.is_none().then_some(Step::Number(desired.node)));
    plan.steps.extend((!observed.permit).then_some(Step::Permit));
    plan.problems.extend(serving(desired, observed));
}

/// Why the server does not serve.
fn serving(desired: &Desired, observed: &Observed) -> Vec<Problem> {
    let own = match &observed.server {
        Server::Serving { .. } => return Vec::new(),
        Server::Away(reason) => return vec![problem("zookeeper.service", reason.clone())],
        Server::Alone => problem("quorum", "the server runs and is part of no quorum".into()),
    };
    let missing = desired.members.iter().filter(|(id, _)| **id != desired.node);
    let missing = missing.filter_map(|(id, name)| {
        let witness = observed.others.get(id)?;
        let reason = match witness {
            quorum::Witness::Silent(reason) => format!("does not answer: {reason}"),
            quorum::Witness::Says(details) if details.role.is_some() => return None,
            quorum::Witness::Says(_) => format!("its server is {}", witness.word()),
        };
        Some(problem(name.as_str(), reason))
    });
    std::iter::once(own).chain(missing).collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbid => write!(f, "forbid the server to start"),
            Self::Clear => write!(f, "remove {DIRECTORY}/version-2, which has no data"),
            Self::Uninitialize => write!(f, "remove {DIRECTORY}/initialize"),
            Self::Mark(cluster) => write!(f, "mark {DIRECTORY} as cluster {cluster}'s"),
            Self::Initialize => write!(f, "found: write {DIRECTORY}/initialize"),
            Self::Number(id) => write!(f, "write {DIRECTORY}/myid: {id}"),
            Self::Permit => write!(f, "permit the server to start"),
            Self::Turn(step) => step.fmt(f),
        }
    }
}
