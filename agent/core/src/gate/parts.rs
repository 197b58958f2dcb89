//! What a node is part of, out of what its agent says.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::status::{Details, NodeStatus, State, SubjectStatus};

/// What a node is part of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parts {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The links that had carrier, by the kernel's names.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub links: BTreeSet<String>,
    /// What of the network had problems although no step was left; `None`: it had not come so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<BTreeSet<String>>,
    /// The same of the services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<BTreeSet<String>>,
    /// What it was in ZooKeeper's ensemble.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zookeeper: Option<String>,
    /// What its monitor was in Ceph's quorum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceph: Option<String>,
    /// The numbers of its OSDs that were up.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub osds: BTreeSet<String>,
    /// What it was in Patroni's cluster: the leader, or one that streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patroni: Option<String>,
    /// The neighbours with which it exchanged routes.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub bgp: BTreeSet<String>,
    /// Whether libvirt answered.
    pub libvirt: bool,
    /// Whether a guest ran under KVM.
    pub kvm: bool,
    /// The nodes whose agents answered.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub peers: BTreeSet<String>,
}

/// What a physical link shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// It is up and connected.
    Carrier,
    /// It is up and not connected.
    NoCarrier,
    /// Nobody has brought it up: what it would show is not known.
    Down,
}

/// What is seen at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Now {
    /// What the agent says.
    #[serde(default)]
    pub status: Option<NodeStatus>,
    /// Why it says nothing.
    #[serde(default)]
    pub silent: Option<String>,
    /// The physical links by the kernel's names.
    #[serde(default)]
    pub links: BTreeMap<String, Link>,
    /// Whether nothing of the boot is waited for any more.
    #[serde(default)]
    pub booted: bool,
}

impl Parts {
    /// As the agent and the kernel say it.
    pub fn of(status: &NodeStatus, links: &BTreeMap<String, Link>) -> Self {
        let subject = |name: &str| status.subjects.get(name);
        let details = |name: &str| subject(name).and_then(known);
        let role = |name: &str| details(name)?.role.clone();
        let libvirt = |key: &str| details("libvirt").and_then(|it| it.more.get(key));
        let established = |(name, word): (&String, &String)| {
            word.starts_with("established").then(|| name.clone())
        };
        let answers = |(name, peer): (&String, &crate::status::PeerStatus)| {
            peer.silent.is_none().then(|| name.clone())
        };
        let connected = links.iter().filter(|(_, link)| **link == Link::Carrier);
        Self {
            node: status.node.as_ref().map(|node| node.name.clone()),
            links: connected.map(|(name, _)| name.clone()).collect(),
            network: subject("network").and_then(troubled),
            services: subject("services").and_then(troubled),
            zookeeper: role("zookeeper"),
            ceph: role("ceph"),
            osds: details("osds").map(osds).unwrap_or_default(),
            patroni: role("patroni"),
            bgp: details("frr")
                .map(|it| it.members.iter().filter_map(established).collect())
                .unwrap_or_default(),
            libvirt: libvirt("libvirt").is_some(),
            kvm: libvirt("kvm").is_some_and(|word| word == "works"),
            peers: status.peers.iter().filter_map(answers).collect(),
        }
    }
}

/// What a look has shown. What one that failed has left behind is old.
fn known(subject: &SubjectStatus) -> Option<&Details> {
    match subject.state {
        State::Waiting { .. } | State::Retry { .. } => None,
        State::Running | State::Converged | State::Degraded { .. } => Some(&subject.details),
    }
}

/// What has problems in a subject without steps left.
fn troubled(subject: &SubjectStatus) -> Option<BTreeSet<String>> {
    match &subject.state {
        State::Converged => Some(BTreeSet::new()),
        State::Degraded { problems } => Some(problems.iter().map(|it| it.object.clone()).collect()),
        State::Waiting { .. } | State::Running | State::Retry { .. } => None,
    }
}

/// The OSDs that are up: `osd 3, active`, by their numbers, because a disk may get another name.
fn osds(details: &Details) -> BTreeSet<String> {
    let number = |word: &String| {
        let (number, state) = word.strip_prefix("osd ")?.split_once(", ")?;
        (state == "active").then(|| number.to_owned())
    };
    details.more.values().filter_map(number).collect()
}
