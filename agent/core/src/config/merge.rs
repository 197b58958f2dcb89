//! Raw → merged: each node with what the cluster gives to all of them. Nothing is judged here. Every value
//! keeps its place, be it the node's own or the default's.

use std::collections::BTreeMap;

use super::NetworkName;
use super::given::{Given, Table};
use super::raw::{
    AddressV4, AddressV6, List, RawBmc, RawBond, RawBridge, RawDisk, RawFile, RawLink, RawMatch,
    RawNode, RawNodeDefaults, RawNodeNetwork, RawOsd, RawReserve, RawVlan,
};
use super::spots::Spot;
use crate::names::{IfName, LabelKey, LabelValue, Mtu, NodeId, NodeName};

/// One node with the cluster's defaults.
#[derive(Debug)]
pub(super) struct MergedNode {
    /// The node's place.
    pub(super) spot: Spot,
    /// What messages call it: its name, else its ID, else its number in the list.
    pub(super) label: String,
    pub(super) id: Given<NodeId>,
    pub(super) name: Given<NodeName>,
    pub(super) matches: Given<RawMatch>,
    pub(super) bmc: Given<RawBmc>,
    pub(super) system_disk: Given<RawDisk>,
    pub(super) var_disk: Given<RawDisk>,
    pub(super) wipe: List<String>,
    pub(super) osds: List<RawOsd>,
    pub(super) reserve: RawReserve,
    pub(super) labels: BTreeMap<LabelKey, Given<LabelValue>>,
    pub(super) links: BTreeMap<IfName, MergedLink>,
    pub(super) networks: BTreeMap<NetworkName, MergedNetwork>,
}

/// One link of a node.
#[derive(Debug)]
pub(super) struct MergedLink {
    /// The node's own entry, else the default's.
    pub(super) spot: Spot,
    /// Wrong ones are kept: others may refer to them.
    pub(super) link: Given<RawLink>,
}

/// What a node has of its own on a network, and what it takes from the cluster.
#[derive(Debug, Default)]
pub(super) struct MergedNetwork {
    /// The node's own entry.
    pub(super) own: Option<Spot>,
    pub(super) link: Given<IfName>,
    pub(super) mtu: Given<Mtu>,
    pub(super) ipv4: Given<AddressV4>,
    pub(super) ipv6: Given<AddressV6>,
}

/// Every node that can be told apart from nothing.
pub(super) fn merge(file: &RawFile) -> Vec<MergedNode> {
    let nodes = file.nodes.get().map_or(&[][..], Vec::as_slice);
    let defaults = file.node_defaults.get().cloned().unwrap_or_default();
    let nodes = nodes.iter().enumerate();
    nodes
        .filter_map(|(index, node)| node.at().map(|(node, spot)| (index, node, spot)))
        .map(|(index, node, spot)| MergedNode {
            spot,
            label: label(node, index),
            id: node.id.clone(),
            name: node.name.clone(),
            matches: node.matches.clone(),
            bmc: merge_bmc(&node.bmc, &defaults.bmc),
            system_disk: own_disk(node, &node.system_disk, &defaults.system_disk),
            var_disk: own_disk(node, &node.var_disk, &defaults.var_disk),
            wipe: node.wipe.clone(),
            osds: node.osds.or(&defaults.osds).clone(),
            reserve: merge_reserve(node, &defaults),
            labels: merge_labels(node, &defaults),
            links: merge_links(&file.links, &node.links),
            networks: NetworkName::ALL.map(|name| (name, merge_network(file, node, name))).into(),
        })
        .collect()
}

fn label(node: &RawNode, index: usize) -> String {
    match (node.name.get(), node.id.get()) {
        (Some(name), _) => name.to_string(),
        (None, Some(id)) => format!("ID {id}"),
        (None, None) => format!("nodes[{index}]"),
    }
}

/// A system disk and a disk for /var alone are one choice: a node that says either of its own takes no default of the
/// other, or it could not be diskless among nodes that are installed.
fn own_disk(node: &RawNode, own: &Given<RawDisk>, default: &Given<RawDisk>) -> Given<RawDisk> {
    let chooses = !node.system_disk.is_absent() || !node.var_disk.is_absent();
    if chooses { own.clone() } else { default.clone() }
}

/// A default BMC alone makes none: it has no address.
fn merge_bmc(own: &Given<RawBmc>, default: &Given<RawBmc>) -> Given<RawBmc> {
    let (Given::Is(own, spot), Some(default)) = (own, default.get()) else { return own.clone() };
    let merged = RawBmc {
        address: own.address.or(&default.address).clone(),
        user: own.user.or(&default.user).clone(),
        secret: own.secret.or(&default.secret).clone(),
    };
    Given::Is(merged, *spot)
}

fn merge_reserve(node: &RawNode, defaults: &RawNodeDefaults) -> RawReserve {
    let own = node.reserve.get().cloned().unwrap_or_default();
    let default = defaults.reserve.get().cloned().unwrap_or_default();
    RawReserve {
        cpus: own.cpus.or(&default.cpus).clone(),
        memory: own.memory.or(&default.memory).clone(),
    }
}

fn merge_labels(
    node: &RawNode,
    defaults: &RawNodeDefaults,
) -> BTreeMap<LabelKey, Given<LabelValue>> {
    let tables = [defaults.labels.get(), node.labels.get()];
    let entries = tables.into_iter().flatten().flat_map(Table::entries);
    let entries = entries.filter(|(_, value)| !value.is_absent());
    entries.map(|(key, value)| (key.clone(), value.clone())).collect()
}

type Links = Given<Table<IfName, RawLink>>;

/// The links that somebody wrote something about.
fn written(links: &Links) -> impl Iterator<Item = (&IfName, &Given<RawLink>)> {
    let entries = links.get().into_iter().flat_map(Table::entries);
    entries.filter(|(_, link)| !link.is_absent())
}

fn merge_links(defaults: &Links, own: &Links) -> BTreeMap<IfName, MergedLink> {
    let mut links = BTreeMap::new();
    for (name, link) in written(defaults) {
        put_link(&mut links, name, link.clone());
    }
    for (name, link) in written(own) {
        let merged = match (links.get(name), link) {
            (Some(MergedLink { link: Given::Is(default, _), .. }), Given::Is(own, spot)) => {
                Given::Is(merge_link(own, default), *spot)
            }
            _ => link.clone(),
        };
        put_link(&mut links, name, merged);
    }
    links.retain(|_, merged| !is_absent(&merged.link));
    links
}

fn put_link(links: &mut BTreeMap<IfName, MergedLink>, name: &IfName, link: Given<RawLink>) {
    let spot = link.at().map_or(Spot::ROOT, |(_, spot)| spot);
    links.insert(name.clone(), MergedLink { spot, link });
}

fn is_absent(link: &Given<RawLink>) -> bool {
    link.get().is_some_and(|link| link.absent.get() == Some(&true))
}

/// A node that says what a link is replaces what the cluster says; within the same kind, key by key.
fn merge_link(own: &RawLink, default: &RawLink) -> RawLink {
    let RawLink { nic, bond, vlan, bridge, mtu, absent } = own;
    let mtu = mtu.or(&default.mtu).clone();
    let absent = absent.clone();
    let kindless = nic.is_absent() && bond.is_absent() && vlan.is_absent() && bridge.is_absent();
    if kindless {
        return RawLink { mtu, absent, ..default.clone() };
    }
    RawLink {
        nic: nic.clone(),
        bond: merge_bond(bond, &default.bond),
        vlan: merge_vlan(vlan, &default.vlan),
        bridge: merge_bridge(bridge, &default.bridge),
        mtu,
        absent,
    }
}

fn merge_bond(own: &Given<RawBond>, default: &Given<RawBond>) -> Given<RawBond> {
    let (Given::Is(own, spot), Some(default)) = (own, default.get()) else { return own.clone() };
    let mode_changed = own.mode.get().is_some_and(|mode| Some(mode) != default.mode.get());
    if mode_changed {
        // What belongs to the default's mode does not belong to this one.
        let ports = own.ports.or(&default.ports).clone();
        return Given::Is(RawBond { ports, ..own.clone() }, *spot);
    }
    let merged = RawBond {
        mode: own.mode.or(&default.mode).clone(),
        ports: own.ports.or(&default.ports).clone(),
        lacp_rate: own.lacp_rate.or(&default.lacp_rate).clone(),
        hash_policy: own.hash_policy.or(&default.hash_policy).clone(),
        primary: own.primary.or(&default.primary).clone(),
    };
    Given::Is(merged, *spot)
}

fn merge_vlan(own: &Given<RawVlan>, default: &Given<RawVlan>) -> Given<RawVlan> {
    let (Given::Is(own, spot), Some(default)) = (own, default.get()) else { return own.clone() };
    let merged = RawVlan {
        parent: own.parent.or(&default.parent).clone(),
        id: own.id.or(&default.id).clone(),
    };
    Given::Is(merged, *spot)
}

fn merge_bridge(own: &Given<RawBridge>, default: &Given<RawBridge>) -> Given<RawBridge> {
    let (Given::Is(own, spot), Some(default)) = (own, default.get()) else { return own.clone() };
    Given::Is(RawBridge { ports: own.ports.or(&default.ports).clone() }, *spot)
}

fn merge_network(file: &RawFile, node: &RawNode, name: NetworkName) -> MergedNetwork {
    let own = node.networks.get().map(|networks| networks.get(name));
    let spot = own.and_then(Given::at).map(|(_, spot)| spot);
    let own = own.and_then(Given::get).cloned().unwrap_or_default();
    let default = file.networks.get().and_then(|networks| networks.get(name).get());
    let (link, mtu) =
        default.map(|default| (default.link.clone(), default.mtu.clone())).unwrap_or_default();
    let RawNodeNetwork { link: own_link, mtu: own_mtu, ipv4, ipv6 } = own;
    MergedNetwork {
        own: spot,
        link: own_link.or(&link).clone(),
        mtu: own_mtu.or(&mtu).clone(),
        ipv4: ipv4.get().map(|family| family.address.clone()).unwrap_or_default(),
        ipv6: ipv6.get().map(|family| family.address.clone()).unwrap_or_default(),
    }
}
