//! Merged → valid: everything must fit together. Every problem is told; only a file without errors
//! becomes a [`Config`].

mod addresses; // who has which address
mod disks; // disk rules and OSDs
mod kinds; // what one link is
mod links; // the links of one node, among each other
mod mtus; // what fits through what
mod networks; // the core networks
mod nodes; // the nodes, one by one and among each other
mod routing; // FRR
mod services; // Ceph, Postgres, ZooKeeper, updates, logs

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Display;
use std::hash::Hash;
use std::net::IpAddr;

use super::given::Given;
use super::limits;
use super::merge::{MergedNode, merge};
use super::problem::{Draft, Problems, error, warning};
use super::raw::{List, RawCluster, RawFile};
use super::spots::{Spot, Spots};
use super::{Config, Networks, Settings};
use crate::names::{Host, NodeId};

/// Something is wrong, and that has been told.
#[derive(Debug, Clone, Copy)]
struct Told;

/// What every check needs: where things stand, and where problems go.
#[derive(Clone, Copy)]
pub(super) struct Check<'a> {
    pub(super) spots: &'a Spots,
    pub(super) problems: &'a RefCell<Problems>,
}

impl Check<'_> {
    pub(super) fn tell(self, draft: Draft) {
        self.problems.borrow_mut().push(draft);
    }

    /// Tells a problem that shows on a node, though its cause may stand in the defaults.
    fn tell_on(self, node: &MergedNode, draft: Draft) {
        self.tell(draft.seen_on(node.spot, &node.label, self.spots));
    }

    /// The value of a key that must be there. `parent` is pointed at if it is not.
    fn need<T: Clone>(self, given: &Given<T>, parent: Spot, key: &str, help: &str) -> Option<T> {
        if given.is_absent() {
            self.tell(error(parent, format!("the key `{key}` is missing")).help(help));
        }
        given.get().cloned()
    }

    /// The right items of a list with their places; an item given twice is told.
    fn distinct<T: Clone + Eq + Hash + Display>(
        self,
        list: &List<T>,
        what: &str,
    ) -> Vec<(T, Spot)> {
        let mut seen = HashSet::new();
        let mut distinct = Vec::new();
        for (item, spot) in items(list) {
            if seen.insert(item) {
                distinct.push((item.clone(), spot));
            } else {
                let reason = format!("{what} {item} is listed twice");
                self.tell(error(spot, reason).help("remove one of the two"));
            }
        }
        distinct
    }
}

/// The first of many words, for help.
fn some<T: Display>(words: impl IntoIterator<Item = T>) -> String {
    const MOST: usize = 12;
    let mut words = words.into_iter();
    let first: Vec<String> = words.by_ref().take(MOST).map(|word| word.to_string()).collect();
    let more = if words.next().is_some() { ", …" } else { "" };
    first.join(", ") + more
}

/// The right items of a list with their places.
fn items<T>(list: &List<T>) -> impl Iterator<Item = (&T, Spot)> {
    list.get().into_iter().flatten().filter_map(Given::at)
}

/// The value, or the default if nobody wrote it. A wrong value has been told, so the default does no harm.
fn given_or<T: Clone>(given: &Given<T>, default: T) -> T {
    given.get().cloned().unwrap_or(default)
}

/// Judges the whole file. `None` if something is wrong, which has been told.
pub(super) fn check(check: Check<'_>, file: &RawFile) -> Option<Config> {
    check_version(check, file);
    if !limits::within(check, file) {
        return None;
    }
    let merged = merge(file);
    let networks = networks::networks(check, file);
    let coordinators = coordinators(check, file);
    let nodes = nodes::nodes(check, file, &merged, &networks, &coordinators);
    addresses::addresses(check, file, &merged, &networks);
    let settings = settings(check, file, &merged, &networks);
    let cluster = cluster(check, file);
    let time_servers =
        check.distinct(&file.time.get().cloned().unwrap_or_default().servers, "time server");
    let dns_servers = dns_servers(check, file);
    warn_of_names(check, &time_servers, &dns_servers);
    let ssh_keys = check.distinct(&file.ssh.get().cloned().unwrap_or_default().keys, "the key");
    if check.problems.borrow().has_errors() {
        return None;
    }
    let (name, domain) = cluster?;
    Some(Config {
        name,
        domain,
        coordinators: coordinators.into_keys().collect(),
        time_servers: values(time_servers),
        dns_servers,
        networks: Networks { distinct: networks.iter().map(networks::Core::valid).collect() },
        nodes: nodes?,
        settings: settings?,
        ssh_keys: values(ssh_keys),
    })
}

fn values<T>(items: Vec<(T, Spot)>) -> Vec<T> {
    items.into_iter().map(|(item, _)| item).collect()
}

fn check_version(check: Check<'_>, file: &RawFile) {
    check.need(&file.version, Spot::ROOT, "version", "write `version: 1` as the first line");
}

fn cluster(
    check: Check<'_>,
    file: &RawFile,
) -> Option<(crate::names::ClusterName, crate::names::DomainName)> {
    let help = "write\ncluster:\n  name: home\n  domain: lab.example.net";
    let RawCluster { name, domain } = check.need(&file.cluster, Spot::ROOT, "cluster", help)?;
    let spot = file.cluster.at().map_or(Spot::ROOT, |(_, spot)| spot);
    let name = check.need(&name, spot, "name", "write `name: home`: one DNS label");
    let domain = check.need(&domain, spot, "domain", "write `domain: lab.example.net`");
    Some((name?, domain?))
}

/// ZooKeeper's server numbers are 1 to 255 (`myid` in its administrator's guide), and follow from node IDs.
const HIGHEST_SERVER_NUMBER: u16 = 255;

/// The coordinators by ID.
fn coordinators(check: Check<'_>, file: &RawFile) -> BTreeMap<NodeId, Spot> {
    let help = "write `coordinators: [1, 2, 3]`: the IDs of 1, 3, 5 or 7 nodes";
    check.need(&file.coordinators, Spot::ROOT, "coordinators", help);
    let Some((list, spot)) = file.coordinators.at() else { return BTreeMap::new() };
    let listed = check.distinct(&file.coordinators, "coordinator");
    if listed.len() == list.len() {
        check_count(check, listed.len(), spot);
    }
    let nodes = known_ids(file);
    for (id, spot) in &listed {
        check_server_number(check, *id, *spot);
        if let Some(nodes) = nodes.as_ref().filter(|nodes| !nodes.contains(id)) {
            let reason = format!("coordinator {id} is not a node");
            let help = format!("the nodes' IDs are {}; list some of them", some(nodes));
            check.tell(error(*spot, reason).help(help));
        }
    }
    listed.into_iter().collect()
}

fn check_count(check: Check<'_>, count: usize, spot: Spot) {
    let draft = match count {
        0 => error(spot, "no coordinator is given").help("list 3 node IDs, or 1 for a lab"),
        1 => warning(spot, "a single coordinator has no quorum: its failure stops the cluster")
            .help("this is for a lab; list 3 node IDs otherwise"),
        3 | 5 | 7 => return,
        2 | 4 | 6 => {
            let reason = format!(
                "{count} coordinators survive no more failures than {}: the number must be odd",
                count - 1
            );
            error(spot, reason).help(format!("list {} or {} node IDs", count - 1, count + 1))
        }
        _ => error(spot, format!("{count} coordinators are too many: each write waits for most"))
            .help("list 3, 5 or 7 node IDs; the other nodes are hypervisors"),
    };
    check.tell(draft);
}

/// The nodes' IDs; `None` if they are not all known, which is told elsewhere.
fn known_ids(file: &RawFile) -> Option<BTreeSet<NodeId>> {
    let nodes = file.nodes.get().filter(|nodes| !nodes.is_empty())?;
    nodes.iter().map(|node| node.get()?.id.get().copied()).collect()
}

fn check_server_number(check: Check<'_>, id: NodeId, spot: Spot) {
    if u16::from(id) > HIGHEST_SERVER_NUMBER {
        let reason = format!(
            "a coordinator's ID is its ZooKeeper server number, which is at most {HIGHEST_SERVER_NUMBER}"
        );
        check.tell(error(spot, reason).help("give the coordinators low IDs"));
    }
}

fn dns_servers(check: Check<'_>, file: &RawFile) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    let dns = file.dns.get().cloned().unwrap_or_default();
    let mut servers = Vec::new();
    for (address, spot) in items(&dns.servers) {
        if seen.insert(address.0) {
            servers.push(address.0);
        } else {
            let reason = format!("DNS server {} is listed twice", address.0);
            check.tell(error(spot, reason).help("remove one of the two"));
        }
    }
    servers
}

fn warn_of_names(check: Check<'_>, time_servers: &[(Host, Spot)], dns_servers: &[IpAddr]) {
    if !dns_servers.is_empty() {
        return;
    }
    for (host, spot) in time_servers {
        if let Host::Name(name) = host {
            let reason = format!("`{name}` is a name, and there are no DNS servers to look it up");
            check.tell(
                warning(*spot, reason).help("give `dns: {servers: […]}`, or an address here"),
            );
        }
    }
}

fn settings(
    check: Check<'_>,
    file: &RawFile,
    nodes: &[MergedNode],
    networks: &[networks::Core],
) -> Option<Settings> {
    let ceph = services::ceph(check, file, nodes);
    let postgres = services::postgres(check, file);
    let zookeeper = services::zookeeper(check, file);
    let frr = routing::frr(check, file, networks);
    let update = services::update(check, file);
    let logging = services::logging(check, file);
    let metrics = services::metrics(file);
    Some(Settings {
        ceph: ceph?,
        postgres,
        zookeeper: zookeeper?,
        frr: frr.ok()?,
        update: update.ok()?,
        logging: logging?,
        metrics,
    })
}
