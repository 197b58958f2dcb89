//! The coordinator's Ceph monitor and manager: when a monitor's store may be made, and so when they may start.
//!
//! The subject `services` starts the daemons; this one gives the permission, a file that is gone at each boot. The
//! monitor's unit makes its store before its first start, from the members that the permission names
//! (`/usr/lib/trilith/ceph-mon-prepare`). Every store is made from the same map, also that of a monitor which joins:
//! it finds the quorum by the others' addresses and takes the map and the data from there, and it cannot found a
//! second quorum, because one joins only a majority, so that those which join are always too few.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::names::{NodeId, NodeName};
use crate::quorum::{self, Data, Decision, Others, Witness};
use crate::status::{Details, Problem, problem};
use crate::subject::{Plan, Subject};
use crate::turns::{self, Seen, Table};

pub mod answer; // what a monitor says of itself
#[cfg(test)]
mod tests;

/// The folder of the monitors' stores, each in a folder `ceph-NAME` (`mon data`).
pub const MONITORS: &str = "/var/lib/ceph/mon";

/// The permission to start the monitor, which names all of them: what `ceph-mon@.service` needs and reads.
pub const MONITOR_PERMIT: &str = "/run/trilith/permits/ceph-mon";

/// The permission to start the manager.
pub const MANAGER_PERMIT: &str = "/run/trilith/permits/ceph-mgr";

/// The port of monitors, second version of the protocol.
const PORT: u16 = 3300;

/// Ceph's monitor and manager on a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceph;

/// Which monitors there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// This node.
    pub node: NodeId,
    /// All coordinators: each has a monitor of its name. A node that is none of them has nothing to do.
    pub members: BTreeMap<NodeId, NodeName>,
    /// Where each monitor listens, on Ceph's public network.
    pub addresses: BTreeMap<NodeId, IpAddr>,
    /// The cluster's identity, a UUID (`fsid`).
    pub cluster: String,
}

/// What the node shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// The stores in [`MONITORS`], by the name of their monitor.
    #[serde(default)]
    pub stores: BTreeMap<String, Store>,
    /// The permission for the monitor, if it is there.
    #[serde(default)]
    pub monitor_permit: Option<String>,
    /// Whether the permission for the manager is there.
    #[serde(default)]
    pub manager_permit: bool,
    /// The monitor on this node.
    pub monitor: Monitor,
    /// Where this node stands with its turn to restart Ceph's daemons.
    #[serde(default)]
    pub turn: Seen,
    /// Why its OSDs may not stop now (`osd ok-to-stop`). Asked only when there is nothing else to wait for.
    #[serde(default)]
    pub objection: Option<String>,
    /// The other coordinators.
    #[serde(default)]
    pub others: Others,
}

/// A monitor's store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// The identity in its file `cluster`, written when the store is whole.
    pub cluster: Option<String>,
    /// Whether its monitor was ever seen in a quorum: the file `quorum`, which this subject writes.
    pub quorum: bool,
}

/// The monitor on this node, by its own word (`mon_status`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// It does not answer, with the reason.
    Away(String),
    /// It runs and is in no quorum: `probing`, `electing`, `synchronizing`.
    Out(String),
    /// It is in the quorum.
    In {
        /// `leader` or `peon`.
        role: String,
        /// The name of the leader.
        leader: String,
        /// The names of all in the quorum.
        quorum: Vec<String>,
    },
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take both permissions back.
    Forbid,
    /// Permit the monitor to start, and to make its store if it has none. The text names all monitors.
    PermitMonitor(String),
    /// Note that the monitor was in a quorum.
    Settle(NodeName),
    /// Permit the manager to start.
    PermitManager,
    /// Something about the turn to restart.
    Turn(turns::Step),
}

impl Monitor {
    /// What it is in the quorum; `None`: it is in none.
    pub fn role(&self) -> Option<&str> {
        match self {
            Self::In { role, .. } => Some(role),
            Self::Away(_) | Self::Out(_) => None,
        }
    }
}

impl Subject for Ceph {
    const NAME: &'static str = "ceph";
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        let mut plan = Plan::default();
        let permitted = observed.monitor_permit.is_some() || observed.manager_permit;
        let Some(name) = desired.members.get(&desired.node) else {
            plan.steps.extend(permitted.then_some(Step::Forbid));
            restart(observed, alone(&observed.turn), &mut plan);
            return plan;
        };
        let store = match data(desired, &observed.stores) {
            Data::Foreign { reason } => {
                plan.steps.extend(permitted.then_some(Step::Forbid));
                let reason = format!("{reason}; it is left alone, and Ceph is not started");
                plan.problems.push(problem(MONITORS, reason));
                return plan;
            }
            Data::Founding | Data::Present { .. } => MakeStore::No,
            Data::Empty => {
                let decision = quorum::decide(&desired.members, desired.node, &observed.others);
                if let Decision::Wait(reasons) = decision {
                    plan.steps.extend(permitted.then_some(Step::Forbid));
                    plan.problems.extend(reasons);
                    return plan;
                }
                MakeStore::Yes
            }
        };
        permit(desired, observed, store, &mut plan);
        keep(desired, observed, name, &mut plan);
        let Desired { node: me, members, .. } = desired;
        let role = observed.monitor.role();
        let table = Table { members, me: *me, role, others: &observed.others };
        let turn = turns::plan(table, &observed.turn);
        plan.problems.extend(turn.problems);
        restart(observed, turn.steps, &mut plan);
        plan
    }

    fn details(desired: &Desired, observed: &Observed) -> Details {
        if !desired.members.contains_key(&desired.node) {
            return Details::default();
        }
        let (role, leader, quorum) = match &observed.monitor {
            Monitor::In { role, leader, quorum } => {
                (Some(role.clone()), Some(leader.clone()), quorum.as_slice())
            }
            Monitor::Away(_) | Monitor::Out(_) => (None, None, [].as_slice()),
        };
        let word = |(id, name): (&NodeId, &NodeName)| {
            let word = match observed.others.get(id) {
                _ if leader.as_deref() == Some(name.as_str()) => "leader".into(),
                _ if quorum.iter().any(|member| member == name.as_str()) => "peon".into(),
                _ if *id == desired.node => "out of quorum".into(),
                Some(witness) => witness.word(),
                None => "no answer".into(),
            };
            (name.to_string(), word)
        };
        let members = desired.members.iter().map(word).collect();
        let data = Some(data(desired, &observed.stores));
        let turn = Some(observed.turn.stand);
        Details { data, role, leader, members, turn, ..Details::default() }
    }
}

/// A node that carries OSDs and no monitor has no vote, and nobody would hear it. It restarts them when Ceph says that
/// all data stays available; were two to be told so at once, some of it would wait for the seconds of a restart.
fn alone(Seen { stand, due, .. }: &Seen) -> Vec<turns::Step> {
    match (due, stand.holds) {
        (true, false) => vec![turns::Step::Permit],
        (false, true) => vec![turns::Step::Revoke],
        (true, true) | (false, false) => Vec::new(),
    }
}

/// What is planned for the turn, unless Ceph objects: then its OSDs go on, and the others wait.
fn restart(observed: &Observed, mut steps: Vec<turns::Step>, plan: &mut Plan<Step>) {
    if let Some(objection) = &observed.objection
        && steps.contains(&turns::Step::Permit)
    {
        steps.retain(|step| *step != turns::Step::Permit);
        plan.problems.push(problem("osds", format!("wait to restart: {objection}")));
    }
    plan.steps.extend(steps.into_iter().map(Step::Turn));
}

/// What the stores hold, as the others are told.
pub fn data(desired: &Desired, stores: &BTreeMap<String, Store>) -> Data {
    let foreign = |reason: String| Data::Foreign { reason };
    let own = desired.members.get(&desired.node).map(NodeName::as_str);
    if let Some(other) = stores.keys().find(|name| Some(name.as_str()) != own) {
        return foreign(format!("it has the store of a monitor {other}, which is not this node's"));
    }
    match own.and_then(|own| stores.get(own)) {
        None => Data::Empty,
        Some(Store { cluster: None, .. }) => {
            foreign("it has a store, and no file `cluster` says whose".into())
        }
        Some(Store { cluster: Some(cluster), .. }) if *cluster != desired.cluster => foreign(
            format!("it belongs to the cluster {cluster}, and this one is {}", desired.cluster),
        ),
        Some(Store { quorum: true, .. }) => Data::Present { cluster: desired.cluster.clone() },
        Some(Store { quorum: false, .. }) => Data::Founding,
    }
}

/// Whether the monitor's unit may make a store: one that was removed under a permission is not made anew without a
/// new decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MakeStore {
    Yes,
    No,
}

/// Permits the monitor to start.
fn permit(desired: &Desired, observed: &Observed, store: MakeStore, plan: &mut Plan<Step>) {
    let permit = permission(desired, store);
    if observed.monitor_permit.as_ref() != Some(&permit) {
        plan.steps.push(Step::PermitMonitor(permit));
    }
}

/// What a monitor that may start still needs, and the manager after it.
fn keep(desired: &Desired, observed: &Observed, name: &NodeName, plan: &mut Plan<Step>) {
    match &observed.monitor {
        Monitor::In { .. } => {
            let store = observed.stores.get(name.as_str());
            let unsettled = store.is_some_and(|store| !store.quorum);
            plan.steps.extend(unsettled.then(|| Step::Settle(name.clone())));
            plan.steps.extend((!observed.manager_permit).then_some(Step::PermitManager));
        }
        Monitor::Away(reason) => plan.problems.push(problem("monitor", reason.clone())),
        Monitor::Out(state) => {
            plan.problems.push(problem("quorum", format!("the monitor is {state}, in no quorum")));
            plan.problems.extend(missing(desired, observed));
        }
    }
}

/// Who is missed by a monitor without quorum.
fn missing<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = Problem> + 'a {
    let others = desired.members.iter().filter(|(id, _)| **id != desired.node);
    others.filter_map(|(id, name)| match observed.others.get(id)? {
        Witness::Silent(reason) => {
            Some(problem(name.as_str(), format!("does not answer: {reason}")))
        }
        Witness::Says(details) if details.role.is_some() => None,
        witness @ Witness::Says(_) => {
            Some(problem(name.as_str(), format!("its monitor is {}", witness.word())))
        }
    })
}

/// The permission as its unit reads it (systemd.exec(5), `EnvironmentFile=`): what `monmaptool` needs.
fn permission(desired: &Desired, store: MakeStore) -> String {
    let monitors = desired.members.iter().filter_map(|(id, name)| {
        let address = match desired.addresses.get(id)? {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        Some(format!("{name}=[v2:{address}:{PORT}/0]"))
    });
    let monitors = monitors.collect::<Vec<_>>().join(" ");
    let make = match store {
        MakeStore::Yes => "MAKE_STORE=yes\n",
        MakeStore::No => "",
    };
    format!("FSID={}\nMONITORS=\"{monitors}\"\n{make}", desired.cluster)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbid => write!(f, "forbid monitor and manager to start"),
            Self::PermitMonitor(text) if text.contains("MAKE_STORE") => {
                write!(f, "permit the monitor to make its store and to start")
            }
            Self::PermitMonitor(_) => write!(f, "permit the monitor to start"),
            Self::Settle(name) => {
                write!(f, "note in {MONITORS}/ceph-{name} that it was in a quorum")
            }
            Self::Turn(step) => step.fmt(f),
            Self::PermitManager => write!(f, "permit the manager to start"),
        }
    }
}
