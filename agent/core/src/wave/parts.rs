//! From a node's status to what it says of its parts, and from what all say to how the cluster stands.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::health::{Ceph, Database, Patroni, Server};
use super::word::{Leads, Member};
use super::{Health, Wish, places};
use crate::libvirt::Libvirt;
use crate::machines::Hosting;
use crate::names::NodeId;
use crate::patroni;
use crate::quorum::LEADER;
use crate::status::{Details, NodeStatus, SubjectStatus};
use crate::subject::Subject as _;
use crate::{ceph, zookeeper};

/// How many transactions a follower may seem behind: its leader is asked a moment later than it.
const BEHIND: u64 = 1000;

/// A node's own parts of the cluster's services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parts {
    /// Its ZooKeeper server, if that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zookeeper: Option<Server>,
    /// Whether its monitor is in quorum.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub monitor: bool,
    /// Its member of Patroni, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// Whether that member says that Patroni is paused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Services of which it restarts its part or waits for its turn to, with a word for which ([`crate::turns`]).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub restarts: BTreeMap<String, String>,
    /// How many machines run on it; `None`: libvirt does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machines: Option<u32>,
    /// What they are, and what room there is for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosting: Option<Hosting>,
}

/// What the cluster file says of Patroni.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commits {
    /// Whether a commit waits for a replica.
    pub synchronous: bool,
    /// A replica that is further behind, in bytes, is no successor.
    pub max_lag: u64,
}

impl Parts {
    /// What a node's agent says of them, and what the node leads.
    pub fn of(status: &NodeStatus) -> (Self, BTreeSet<Leads>) {
        let details = |subject: &str| {
            status.subjects.get(subject).map(|it| it.details.clone()).unwrap_or_default()
        };
        let keeper = details(zookeeper::ZooKeeper::NAME);
        let monitor = details(ceph::Ceph::NAME);
        let database = details(patroni::Patroni::NAME);
        let libvirt = details(Libvirt::NAME);
        let machines = libvirt.more.get("machines").and_then(|text| running(text));
        let coordinates = !database.members.is_empty();
        let parts = Self {
            zookeeper: keeper.role.as_deref().map(|role| server(role, &keeper)),
            monitor: monitor.role.is_some(),
            database: coordinates.then(|| member(&database)),
            paused: database.more.contains_key("paused"),
            restarts: restarts(status),
            machines,
            hosting: libvirt.hosting,
        };
        let leads =
            [(Leads::Zookeeper, &keeper), (Leads::Monitors, &monitor), (Leads::Patroni, &database)];
        let leads = leads.into_iter().filter(|(_, it)| it.role.as_deref() == Some(LEADER));
        (parts, leads.map(|(what, _)| what).collect())
    }
}

/// From its request until its part of the service works again; that it lets another one go first is no request.
fn restarts(status: &NodeStatus) -> BTreeMap<String, String> {
    let restart = |(name, subject): (&String, &SubjectStatus)| {
        let turn = subject.details.turn.filter(|turn| turn.asks.is_some() || turn.holds)?;
        Some((name.clone(), turn.word()?))
    };
    status.subjects.iter().filter_map(restart).collect()
}

fn server(role: &str, details: &Details) -> Server {
    match &details.lag {
        _ if role == LEADER => Server::Leader,
        Some(lag) if lag.behind > BEHIND => Server::Behind,
        _ => Server::Follower,
    }
}

fn member(details: &Details) -> Database {
    match (details.role.as_deref(), &details.lag) {
        (Some(LEADER), _) => Database::Leader,
        (Some("sync standby"), _) => Database::Synchronous,
        // In whole MiB: a word is not to change with every commit.
        (Some(_), Some(lag)) => Database::Streams(lag.behind >> 20 << 20),
        (Some(_), None) | (None, _) => Database::Away,
    }
}

/// `3 running, 5 defined`, as the subject `libvirt` says it.
fn running(text: &str) -> Option<u32> {
    text.split_once(" running")?.0.parse().ok()
}

impl Health {
    /// From what all members say; of one that is silent nothing is known. Ceph is asked by whoever looks.
    pub fn of(
        nodes: &BTreeMap<NodeId, Member>,
        ceph: Option<Ceph>,
        commits: Commits,
        wish: Option<&Wish>,
    ) -> Self {
        let heard = || {
            let answer = |(id, member): (&NodeId, &Member)| {
                let word = member.word.clone().filter(|_| member.silent.is_none())?;
                Some((*id, word.parts))
            };
            nodes.iter().filter_map(answer)
        };
        let quorum: BTreeSet<NodeId> =
            heard().filter(|(_, parts)| parts.monitor).map(|(id, _)| id).collect();
        let members: BTreeMap<NodeId, Database> =
            heard().filter_map(|(id, parts)| Some((id, parts.database?))).collect();
        let Commits { synchronous, max_lag } = commits;
        let paused = heard().any(|(_, parts)| parts.paused);
        let patroni = Patroni { paused, synchronous, max_lag, members };
        Self {
            zookeeper: heard().filter_map(|(id, parts)| Some((id, parts.zookeeper?))).collect(),
            // What Ceph says itself is newer than any word.
            ceph: ceph.map(
                |ceph| {
                    if ceph.quorum.is_empty() { Ceph { quorum, ..ceph } } else { ceph }
                },
            ),
            patroni: (!patroni.members.is_empty()).then_some(patroni),
            machines: nodes
                .keys()
                .filter_map(|id| Some((*id, places::machines(nodes, *id, wish)?)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{BundleStatus, Lag};
    use crate::turns::{Stand, Vote};

    fn subject(details: Details) -> SubjectStatus {
        SubjectStatus { details, ..SubjectStatus::waiting("nothing", 0) }
    }

    fn hosting() -> Hosting {
        Hosting { cpus: 8, room: 1 << 30, ..Hosting::default() }
    }

    fn status(role: [&str; 3], lag: Option<u64>) -> NodeStatus {
        let [keeper, monitor, database] = role.map(|role| Some(role.to_owned()));
        let unit = |behind: u64| Lag { behind, unit: "bytes".into() };
        let members = [("n1".to_owned(), "leader".to_owned())].into();
        let more = [("machines".to_owned(), "3 running, 5 defined".to_owned())].into();
        let parts = [
            ("zookeeper", Details { role: keeper, lag: lag.map(unit), ..Details::default() }),
            ("ceph", Details { role: monitor, ..Details::default() }),
            (
                "patroni",
                Details { role: database, lag: lag.map(unit), members, ..Details::default() },
            ),
            ("libvirt", Details { more, hosting: Some(hosting()), ..Details::default() }),
        ];
        NodeStatus {
            version: "1".into(),
            node: None,
            bundle: BundleStatus::default(),
            subjects: parts.map(|(name, it)| (name.to_owned(), subject(it))).into(),
            peers: BTreeMap::new(),
            addresses: Vec::new(),
            sighting: None,
            installation: None,
            trial: None,
            update: None,
        }
    }

    #[test]
    fn monitors_in_quorum_are_told_by_ceph() {
        let id = |n: u16| NodeId::try_from(n).unwrap();
        let member =
            "{name: n1, word: {running: '1', proven: true, boot: b, parts: {monitor: true}}}";
        let nodes = [(id(1), serde_yaml::from_str(member).unwrap())].into();
        let quorum = |told: BTreeSet<NodeId>| {
            let ceph = Ceph { quorum: told, ..Ceph::default() };
            Health::of(&nodes, Some(ceph), Commits::default(), None).ceph.unwrap().quorum
        };
        assert_eq!(quorum([id(2), id(3)].into()), [id(2), id(3)].into());
        assert_eq!(quorum(BTreeSet::new()), [id(1)].into(), "as the nodes say");
    }

    #[test]
    fn turns_to_restart_a_service() {
        let vote = |n: u16| Some(Vote { node: NodeId::try_from(n).unwrap(), ticket: 7 });
        let told = |asks, vote, holds| {
            let mut status = status(["leader", "leader", "leader"], None);
            let turn = Some(Stand { asks, vote, holds });
            status.subjects.get_mut("ceph").unwrap().details.turn = turn;
            Parts::of(&status).0.restarts.get("ceph").cloned()
        };
        assert_eq!(told(None, None, false), None);
        assert_eq!(told(None, vote(2), false), None, "it is another's");
        assert_eq!(told(Some(7), vote(1), false).as_deref(), Some("waits to restart"));
        assert_eq!(told(Some(7), vote(1), true).as_deref(), Some("restarts"));
        assert_eq!(told(None, None, true).as_deref(), Some("restarts"), "all was lost");
    }

    #[test]
    fn parts_of_a_status() {
        let (parts, leads) = Parts::of(&status(["leader", "leader", "leader"], None));
        assert_eq!(leads, [Leads::Zookeeper, Leads::Monitors, Leads::Patroni].into());
        let expected = Parts {
            zookeeper: Some(Server::Leader),
            monitor: true,
            database: Some(Database::Leader),
            paused: false,
            restarts: BTreeMap::new(),
            machines: Some(3),
            hosting: Some(hosting()),
        };
        assert_eq!(parts, expected);
        let (parts, leads) = Parts::of(&status(["follower", "peon", "replica"], Some(1_500_000)));
        assert!(leads.is_empty());
        assert_eq!(
            (parts.zookeeper, parts.database),
            (Some(Server::Behind), Some(Database::Streams(1 << 20)))
        );
        let (parts, _) = Parts::of(&status(["follower", "peon", "sync standby"], Some(1)));
        assert_eq!(
            (parts.zookeeper, parts.database),
            (Some(Server::Follower), Some(Database::Synchronous))
        );
        let nothing = NodeStatus { subjects: BTreeMap::new(), ..status(["", "", ""], None) };
        assert_eq!(Parts::of(&nothing), (Parts::default(), BTreeSet::new()));
    }
}
