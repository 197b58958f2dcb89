//! The cluster file: YAML text → raw → merged → valid. Only [`Config`], the valid one, leaves this module.

mod check; // merged -> valid: everything must fit together
mod document; // text -> one tree of values with their places
mod given; // values that know where they stand
mod limits; // how much there may be of anything
mod links; // Link, Nic, Bond, …: valid
mod merge; // raw -> merged: each node with the cluster's defaults
mod networks; // Network, NodeNetwork, Subnet: valid
mod nodes; // Node, DiskRule, OsdRule, …: valid
mod problem; // what is wrong, where, and what to write instead
mod raw; // the file as a person writes it
mod read; // tree -> raw types, every wrong value told
mod settings; // Ceph, Postgres, ZooKeeper, Frr, Update, …: valid
mod spots; // where every value stands
mod tidy; // what holds for any map and list

pub use links::{BalanceHash, Bond, BondMode, LacpRate, Link, LinkKind, NicChoice};
pub use networks::Subnet;
pub use networks::{
    AddressFrom, MtuFrom, Network, NetworkName, Networks, NodeAddress, NodeNetwork,
};
pub use nodes::{Bmc, Disk, DiskKind, Match, Node, Osd, OsdDb, Reserve, Role, Transport};
pub use problem::{Position, Problem, Severity};
pub use settings::{
    Bfd, Ceph, FailureDomain, Frr, FrrPeer, LogProtocol, LogRemote, Logging, Metrics, Patroni,
    Pool, Postgres, Settings, Update, Weekday, Window, ZooKeeper,
};

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use check::Check;
use document::{Kind, Node as Tree};
use problem::{Problems, error};
use raw::RawFile;
use spots::{Refusal, Spots};

use crate::names::{ClusterName, DomainName, Host, NodeId, SshKey};

/// A whole cluster, as its cluster file says it, checked: everything in it fits together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The cluster's name.
    pub name: ClusterName,
    /// The DNS domain of the cluster; a node is reached as `NAME.DOMAIN`.
    pub domain: DomainName,
    /// The coordinators: an odd number of nodes.
    pub coordinators: BTreeSet<NodeId>,
    /// NTP servers, in the order of preference. Empty: the coordinators serve each other.
    pub time_servers: Vec<Host>,
    /// DNS resolvers, in the order of preference.
    pub dns_servers: Vec<IpAddr>,
    /// The core networks, the same on every node.
    pub networks: Networks,
    /// Every node with the cluster's defaults merged in.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Settings of services, the same on every node.
    pub settings: Settings,
    /// Who may log in by SSH as root. Empty: nobody.
    pub ssh_keys: Vec<SshKey>,
}

impl Config {
    /// The node with this ID, defaults merged in; `None` if the cluster has no such node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// The coordinators' nodes, by ID.
    pub fn coordinator_nodes(&self) -> impl Iterator<Item = &Node> {
        self.coordinators.iter().filter_map(|id| self.nodes.get(id))
    }
}

/// A judged cluster file.
#[derive(Debug)]
pub struct Judged {
    /// The configuration, if there is no error.
    pub config: Option<Config>,
    /// Everything that is wrong or odd, in the order of the file.
    pub problems: Vec<Problem>,
}

/// The one version of the format that this program reads.
const VERSION: i128 = 1;

/// Judges a cluster file: all problems at once, warnings included.
pub fn judge(text: &str) -> Judged {
    match document::parse(text) {
        Ok((tree, spots)) => judge_tree(tree, spots),
        Err(refusal) => Judged { config: None, problems: vec![unreadable(refusal)] },
    }
}

/// Reads a cluster file that must be right: the configuration, or all problems, warnings included.
pub fn load(text: &str) -> Result<Config, Vec<Problem>> {
    let Judged { config, problems } = judge(text);
    config.ok_or(problems)
}

/// The JSON Schema of the cluster file, for editors.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(RawFile)
}

fn unreadable(refusal: Refusal) -> Problem {
    Problem {
        severity: Severity::Error,
        position: refusal.position,
        path: String::new(),
        reason: refusal.reason,
        value: None,
        help: refusal.help.map(str::to_owned),
        secret: false,
    }
}

fn judge_tree(mut tree: Tree, mut spots: Spots) -> Judged {
    let mut problems = Problems::default();
    tidy::tidy(&mut tree, &mut spots, &mut problems);
    if let Some(draft) = wrong_shape(&tree) {
        problems.push(draft);
        return Judged { config: None, problems: problems.finish(&spots, 0) };
    }
    let problems = RefCell::new(problems);
    let raw: Option<RawFile> = read::read(&tree, &problems);
    let check = Check { spots: &spots, problems: &problems };
    let config = raw.as_ref().and_then(|raw| check::check(check, raw));
    if config.is_none() && !problems.borrow().has_errors() {
        problems
            .borrow_mut()
            .push(error(tree.spot, UNEXPLAINED).help("please report it with the file"));
    }
    let all_nodes = raw.as_ref().and_then(|raw| raw.nodes.get()).map_or(0, Vec::len);
    Judged { config, problems: problems.into_inner().finish(&spots, all_nodes) }
}

/// Nobody is refused without a word, even if the words were forgotten.
const UNEXPLAINED: &str =
    "the file cannot be used, and Trilith fails to say why: this is a fault of Trilith";

/// What makes every further message useless.
fn wrong_shape(tree: &Tree) -> Option<problem::Draft> {
    let entries = match &tree.kind {
        Kind::Null => {
            let help = "`trilith config schema` shows what belongs here, and README.md an example";
            return Some(error(tree.spot, "the file is empty").help(help));
        }
        Kind::Map(entries) => entries,
        _ => {
            let reason = "a cluster file is a map of keys";
            return Some(error(tree.spot, reason).help("begin with `version: 1`"));
        }
    };
    let (_, version) = entries.iter().find(|(key, _)| key == "version")?;
    match version.kind {
        Kind::Int(number) if number != VERSION => {
            let reason =
                format!("this program reads version {VERSION} of the cluster file, not {number}");
            let help = format!("write `version: {VERSION}`, or use a newer release of Trilith");
            Some(error(version.spot, reason).help(help))
        }
        _ => None,
    }
}
