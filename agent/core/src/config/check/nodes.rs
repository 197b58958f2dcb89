//! The nodes, one by one and among each other.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::hash::Hash;

use super::networks::Core;
use super::{Check, Told, addresses, disks, given_or, items, links, some};
use crate::config::given::{Given, Table};
use crate::config::merge::{MergedNetwork, MergedNode};
use crate::config::problem::error;
use crate::config::raw::{RawBmc, RawFile};
use crate::config::spots::Spot;
use crate::config::{
    Bmc, Link, LinkKind, Match, MtuFrom, NetworkName, Node, NodeNetwork, Reserve, Role,
};
use crate::names::{IfName, MacAddr, NodeId};

/// Every node; `None` if something is wrong with one, which is told.
pub(super) fn nodes(
    check: Check<'_>,
    file: &RawFile,
    merged: &[MergedNode],
    cores: &[Core],
    coordinators: &BTreeMap<NodeId, Spot>,
) -> Option<BTreeMap<NodeId, Node>> {
    let help = "write\nnodes:\n  - id: 1\n    name: hv1";
    check.need(&file.nodes, Spot::ROOT, "nodes", help);
    if let Some((list, spot)) = file.nodes.at()
        && list.is_empty()
    {
        check.tell(error(spot, "a cluster has at least one node").help(help));
    }
    no_absent_defaults(check, file);
    unique(check, merged);
    let nodes: Vec<_> = merged.iter().map(|node| one(check, node, cores, coordinators)).collect();
    nodes.into_iter().map(|node| node.map(|node| (node.id, node))).collect()
}

/// `absent` takes away a link of the cluster's; in the cluster's own there is nothing to take away.
fn no_absent_defaults(check: Check<'_>, file: &RawFile) {
    for (_, link) in file.links.get().into_iter().flat_map(Table::entries) {
        if let Some((true, spot)) = link.get().and_then(|link| link.absent.at()) {
            let help = "remove the link here, or write `absent: true` below a node";
            check.tell(error(spot, "a link of every node cannot be absent").on_key().help(help));
        }
    }
}

fn one(
    check: Check<'_>,
    node: &MergedNode,
    cores: &[Core],
    coordinators: &BTreeMap<NodeId, Spot>,
) -> Option<Node> {
    let id = check.need(&node.id, node.spot, "id", "write `id: 1`: addresses follow from it");
    let name = check.need(&node.name, node.spot, "name", "write `name: hv1`: the short host name");
    let links = links::links(check, node);
    let networks = networks(check, node, cores, links.as_ref());
    let bmc = bmc(check, node);
    let system_disk = disks::system_disk(check, node);
    let var_disk = disks::var_disk(check, node);
    let wipe = disks::wipe(check, node);
    let others = [&system_disk, &var_disk].map(|disk| disk.as_ref().ok().and_then(Option::as_ref));
    let osds = disks::osds(check, node, others);
    let labels = node.labels.iter();
    let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.get()?.clone())));
    let id = id?;
    let coordinator = coordinators.contains_key(&id);
    Some(Node {
        id,
        name: name?,
        role: if coordinator { Role::Coordinator } else { Role::Hypervisor },
        matches: matches(node),
        bmc: bmc.ok()?,
        system_disk: system_disk.ok()?,
        var_disk: var_disk.ok()?,
        wipe,
        osds: osds?,
        reserve: Reserve {
            cpus: given_or(&node.reserve.cpus, Reserve::DEFAULT.cpus),
            memory: given_or(&node.reserve.memory, Reserve::DEFAULT.memory),
        },
        labels: labels.collect(),
        links: links?,
        networks: networks?,
    })
}

fn matches(node: &MergedNode) -> Match {
    let Some(raw) = node.matches.get() else { return Match::default() };
    Match {
        macs: items(&raw.mac).map(|(mac, _)| *mac).collect(),
        serial: raw.serial.get().cloned(),
        uuid: raw.uuid.get().cloned(),
        tpm: raw.tpm.get().cloned(),
    }
}

fn bmc(check: Check<'_>, node: &MergedNode) -> Result<Option<Bmc>, Told> {
    let (raw, spot) = match &node.bmc {
        Given::Absent => return Ok(None),
        Given::Wrong => return Err(Told),
        Given::Is(raw, spot) => (raw, *spot),
    };
    let RawBmc { address, user, secret } = raw;
    let address = check.need(address, spot, "address", "write `address: 10.9.0.1`");
    let user =
        check.need(user, spot, "user", "write `user: admin` here or below node_defaults.bmc");
    let help = "write `secret: bmc` here or below node_defaults.bmc: the password's name in the secrets file";
    let secret = check.need(secret, spot, "secret", help);
    let (Some(address), Some(user), Some(secret)) = (address, user, secret) else {
        return Err(Told);
    };
    Ok(Some(Bmc { address, user, secret }))
}

fn networks(
    check: Check<'_>,
    node: &MergedNode,
    cores: &[Core],
    links: Option<&BTreeMap<IfName, Link>>,
) -> Option<Vec<NodeNetwork>> {
    for core in cores {
        for (shared, _) in &core.shared_by {
            nothing_of_its_own(check, node, core.name, *shared);
        }
    }
    let networks: Vec<_> = cores.iter().map(|core| network(check, node, core, links)).collect();
    networks.into_iter().collect()
}

fn nothing_of_its_own(check: Check<'_>, node: &MergedNode, base: NetworkName, shared: NetworkName) {
    let Some(spot) = node.networks.get(&shared).and_then(|network| network.own) else { return };
    let reason = format!("{shared} is the same as {base}, so a node has nothing of its own on it");
    check.tell(error(spot, reason).on_key().help(format!("move this below `networks.{base}`")));
}

fn network(
    check: Check<'_>,
    node: &MergedNode,
    core: &Core,
    links: Option<&BTreeMap<IfName, Link>>,
) -> Option<NodeNetwork> {
    let merged = node.networks.get(&core.name)?;
    no_foreign_family(check, core, merged);
    let addresses = addresses::of_node(check, node, core);
    let link = network_link(check, node, core, merged);
    let (name, link) = links.and_then(|links| links.get_key_value(&link?))?;
    let fits = not_a_port(check, node, merged, links?);
    let (mtu, mtu_from) = match merged.mtu.at() {
        None => (link.mtu, MtuFrom::Under(name.clone())),
        Some((mtu, spot)) if *mtu > link.mtu => {
            let reason =
                format!("MTU {mtu} of {} is above {} of its link `{name}`", core.name, link.mtu);
            let help =
                format!("write at most {} here, or give `{name}` an `mtu` of {mtu}", link.mtu);
            check.tell_on(node, error(spot, reason).help(help));
            return None;
        }
        Some((mtu, _)) => (*mtu, MtuFrom::Given),
    };
    let shared_by = core.shared_by.iter().map(|(shared, _)| *shared).collect();
    let network = NodeNetwork {
        name: core.name,
        shared_by,
        link: name.clone(),
        mtu,
        mtu_from,
        addresses: addresses?,
    };
    fits.then_some(network)
}

fn network_link(
    check: Check<'_>,
    node: &MergedNode,
    core: &Core,
    merged: &MergedNetwork,
) -> Option<IfName> {
    if merged.link.is_absent() {
        let known: Vec<&str> = node.links.keys().map(IfName::as_str).collect();
        let reason = format!("nothing says which link carries {}", core.name);
        let help = if known.is_empty() {
            "give `link`, and the link itself below `links`".to_owned()
        } else {
            format!("give `link`: one of {}", some(known))
        };
        check.tell_on(node, error(core.spot, reason).help(help));
    }
    let (link, spot) = merged.link.at()?;
    links::is_link(check, node, link, spot).then(|| link.clone())
}

/// Packets for the host that arrive on a port go to its bond or bridge.
fn not_a_port(
    check: Check<'_>,
    node: &MergedNode,
    merged: &MergedNetwork,
    links: &BTreeMap<IfName, Link>,
) -> bool {
    let Some((name, spot)) = merged.link.at() else { return false };
    let holds = |link: &Link| match &link.kind {
        LinkKind::Bond(_) | LinkKind::Bridge { .. } => link.lower().contains(name),
        LinkKind::Nic(_) | LinkKind::Vlan { .. } => false,
    };
    let Some((master, _)) = links.iter().find(|(_, link)| holds(link)) else { return true };
    let reason = format!("`{name}` is a port of `{master}` and cannot carry addresses itself");
    check.tell_on(node, error(spot, reason).help(format!("write `link: {master}`")));
    false
}

fn no_foreign_family(check: Check<'_>, core: &Core, merged: &MergedNetwork) {
    let has = |v4: bool| core.subnets.iter().any(|subnet| subnet.net.addr().is_ipv4() == v4);
    let v4 = merged.ipv4.at().map(|(_, spot)| ("IPv4", spot, has(true)));
    let v6 = merged.ipv6.at().map(|(_, spot)| ("IPv6", spot, has(false)));
    for (family, spot, known) in [v4, v6].into_iter().flatten() {
        if !known && !core.subnets.is_empty() {
            let reason = format!("{} has no {family} subnet for this address", core.name);
            let help = format!("remove it, or give `networks.{}` a subnet", core.name);
            check.tell(error(spot, reason).help(help));
        }
    }
}

/// What only one node may have, with the one who has it.
struct Unique<'a, T> {
    check: Check<'a>,
    what: &'static str,
    owners: HashMap<T, (String, Spot)>,
}

impl<'a, T: Eq + Hash + Display> Unique<'a, T> {
    fn new(check: Check<'a>, what: &'static str) -> Self {
        Self { check, what, owners: HashMap::new() }
    }

    /// Takes a value for a node; told if another node has it.
    fn take(&mut self, value: T, node: &MergedNode, spot: Spot, help: &str) {
        let text = value.to_string();
        let (owner, at) =
            self.owners.entry(value).or_insert_with(|| (node.label.clone(), node.spot)).clone();
        if at == node.spot {
            return;
        }
        let line = self.check.spots.line(at);
        let reason = format!("{} {text} is already node {owner}'s (line {line})", self.what);
        self.check.tell_on(node, error(spot, reason).help(help));
    }
}

fn unique(check: Check<'_>, nodes: &[MergedNode]) {
    let mut ids = Unique::new(check, "ID");
    let mut names = Unique::new(check, "the name");
    let mut macs = Unique::new(check, "MAC address");
    let mut serials = Unique::new(check, "serial number");
    let mut uuids = Unique::new(check, "UUID");
    let mut tpms = Unique::new(check, "endorsement key");
    for node in nodes {
        if let Some((id, spot)) = node.id.at() {
            ids.take(*id, node, spot, "give each node an ID of its own");
        }
        if let Some((name, spot)) = node.name.at() {
            names.take(name.clone(), node, spot, "give each node a name of its own");
        }
        for (mac, spot) in node_macs(node) {
            macs.take(mac, node, spot, "a NIC is in one node: give each node its own");
        }
        let Some(raw) = node.matches.get() else { continue };
        if let Some((serial, spot)) = raw.serial.at() {
            serials.take(
                serial.clone(),
                node,
                spot,
                "match each node by something that only it has",
            );
        }
        if let Some((uuid, spot)) = raw.uuid.at() {
            uuids.take(uuid.clone(), node, spot, "match each node by something that only it has");
        }
        if let Some((tpm, spot)) = raw.tpm.at() {
            tpms.take(tpm.clone(), node, spot, "each TPM has a key of its own");
        }
    }
}

/// The MAC addresses by which a node and its NICs are found.
fn node_macs(node: &MergedNode) -> Vec<(MacAddr, Spot)> {
    let matched = node.matches.get().into_iter().flat_map(|raw| items(&raw.mac));
    let chosen = node.links.values().filter_map(|merged| merged.link.get()?.nic.get()?.mac.at());
    matched.chain(chosen).map(|(mac, spot)| (*mac, spot)).collect()
}
