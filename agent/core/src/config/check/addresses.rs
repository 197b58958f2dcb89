//! Who has which address: no two have the same.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::networks::{Core, CoreSubnet, host, is_host, last_host};
use super::{Check, items};
use crate::config::merge::MergedNode;
use crate::config::problem::error;
use crate::config::raw::{Address, RawFile, RawFrrPeer};
use crate::config::spots::Spot;
use crate::config::{AddressFrom, NodeAddress};
use crate::names::{Host, NodeId};

/// Everybody who has an address, for messages: `the gateway of upstream`.
struct Owners<'a> {
    check: Check<'a>,
    /// The first node with each ID. A second one has the same addresses, and the ID is what is told.
    first: HashMap<NodeId, Spot>,
    taken: HashMap<IpAddr, (String, Spot)>,
}

/// Checks that no address is given twice. Addresses by ID go first, so that the explicit ones, which are
/// easier to change, are the ones told of.
pub(super) fn addresses(check: Check<'_>, file: &RawFile, nodes: &[MergedNode], cores: &[Core]) {
    let mut owners = Owners { check, first: HashMap::new(), taken: HashMap::new() };
    for core in cores {
        for subnet in &core.subnets {
            owners.fixed(core, subnet);
        }
    }
    for from in [AddressFrom::NodeId, AddressFrom::Given] {
        for (node, core, subnet) in everywhere(nodes, cores) {
            owners.node(node, core, subnet, from);
        }
    }
    for node in nodes {
        owners.bmc(node);
    }
    let gateways = cores.iter().flat_map(|core| &core.subnets).filter_map(|subnet| subnet.gateway);
    let gateways: Vec<IpAddr> = gateways.map(|(gateway, _)| gateway).collect();
    for (peer, _) in file.frr.get().into_iter().flat_map(|frr| items(&frr.peers)) {
        owners.peer(peer, &gateways);
    }
}

fn everywhere<'n>(
    nodes: &'n [MergedNode],
    cores: &'n [Core],
) -> impl Iterator<Item = (&'n MergedNode, &'n Core, &'n CoreSubnet)> {
    nodes.iter().flat_map(move |node| {
        cores
            .iter()
            .flat_map(move |core| core.subnets.iter().map(move |subnet| (node, core, subnet)))
    })
}

impl Owners<'_> {
    /// The one who already has the address; else `owner` has it from now on.
    fn take(&mut self, address: IpAddr, owner: &str, spot: Spot) -> Option<(String, Spot)> {
        if let Some(taken) = self.taken.get(&address) {
            return Some(taken.clone());
        }
        self.taken.insert(address, (owner.to_owned(), spot));
        None
    }

    fn fixed(&mut self, core: &Core, subnet: &CoreSubnet) {
        let name = core.name;
        if let Some((address, spot)) = subnet.gateway {
            self.take(address, &format!("the gateway of {name}"), spot);
        }
        if let Some((address, spot)) = subnet.floating {
            self.claim(
                address,
                &format!("the floating address of {name}"),
                spot,
                "give another address",
            );
        }
    }

    /// Takes an address, or tells whose it is.
    fn claim(&mut self, address: IpAddr, owner: &str, spot: Spot, help: &str) {
        let Some((taken, at)) = self.take(address, owner, spot) else { return };
        let reason =
            format!("{owner} is {address}, which is {taken} (line {})", self.check.spots.line(at));
        self.check.tell(error(spot, reason).value(address.to_string()).help(help));
    }

    fn node(&mut self, node: &MergedNode, core: &Core, subnet: &CoreSubnet, from: AddressFrom) {
        let Some((address, spot)) = node_address(node, core, subnet.net, from) else { return };
        let id = node.id.get().copied();
        let again = id.is_some_and(|id| *self.first.entry(id).or_insert(node.spot) != node.spot);
        if again && from == AddressFrom::NodeId {
            return;
        }
        let owner = format!("the address of node {} on {}", node.label, core.name);
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let key = format!("networks.{}.{family}.address", core.name);
        let help = match from {
            AddressFrom::NodeId => format!("give the node `{key}`, or another ID"),
            AddressFrom::Given => format!("give another `{key}`, or remove it: the ID gives one"),
        };
        self.claim(address, &owner, spot, &help);
    }

    fn bmc(&mut self, node: &MergedNode) {
        let given = node.bmc.get().and_then(|bmc| bmc.address.at());
        if let Some((Host::Address(address), spot)) = given {
            let owner = format!("the BMC of node {}", node.label);
            self.claim(*address, &owner, spot, "each node has a BMC of its own");
        }
    }

    /// A router may well be the gateway, but none of the cluster's own addresses.
    fn peer(&self, peer: &RawFrrPeer, gateways: &[IpAddr]) {
        let Some((Address(address), spot)) = peer.address.at() else { return };
        let taken = self.taken.get(address).filter(|_| !gateways.contains(address));
        if let Some((owner, at)) = taken {
            let line = self.check.spots.line(*at);
            let reason = format!("peer {address} is {owner} (line {line})");
            self.check.tell(error(spot, reason).help("write the address of a router"));
        }
    }
}

/// The node's address of this origin, if it has one.
fn node_address(
    node: &MergedNode,
    core: &Core,
    net: IpNet,
    wanted: AddressFrom,
) -> Option<(IpAddr, Spot)> {
    let (address, spot) = match (explicit(node, core, net), wanted) {
        (Some(given), AddressFrom::Given) => given,
        (None, AddressFrom::NodeId) => {
            let (id, spot) = node.id.at()?;
            (by_id(net, *id)?, spot)
        }
        _ => return None,
    };
    Some((address, spot))
}

fn by_id(net: IpNet, id: NodeId) -> Option<IpAddr> {
    host(net, u16::from(id).into())
}

/// The address that the file gives for this node.
fn explicit(node: &MergedNode, core: &Core, net: IpNet) -> Option<(IpAddr, Spot)> {
    let own = node.networks.get(&core.name)?;
    match net {
        IpNet::V4(_) => own.ipv4.at().map(|(address, spot)| ((*address).into(), spot)),
        IpNet::V6(_) => own.ipv6.at().map(|(address, spot)| ((*address).into(), spot)),
    }
}

/// The node's addresses on a network, IPv4 first; `None` if one cannot be, which is told.
pub(super) fn of_node(
    check: Check<'_>,
    node: &MergedNode,
    core: &Core,
) -> Option<Vec<NodeAddress>> {
    core.subnets.iter().map(|subnet| on_subnet(check, node, core, subnet)).collect()
}

fn on_subnet(
    check: Check<'_>,
    node: &MergedNode,
    core: &Core,
    subnet: &CoreSubnet,
) -> Option<NodeAddress> {
    let net = subnet.net;
    let (address, from) = match explicit(node, core, net) {
        Some((address, spot)) => {
            (is_host(check, net, address, spot).then_some(address)?, AddressFrom::Given)
        }
        None => (derive(check, node, core, net)?, AddressFrom::NodeId),
    };
    let address = IpNet::new(address, net.prefix_len()).ok()?;
    Some(NodeAddress { address, gateway: subnet.gateway.map(|(gateway, _)| gateway), from })
}

fn derive(check: Check<'_>, node: &MergedNode, core: &Core, net: IpNet) -> Option<IpAddr> {
    let (id, spot) = node.id.at()?;
    let address = by_id(net, *id);
    if address.is_none() {
        let reason = format!(
            "ID {id} is past the end of {net} of {}: the last is {}",
            core.name,
            last_host(net)
        );
        let help =
            format!("give a lower ID, a larger subnet, or the node an address on {}", core.name);
        check.tell(error(spot, reason).help(help));
    }
    address
}
