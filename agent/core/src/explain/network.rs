//! Links, networks and addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Fact, Section, fact, list, section, setting, word};
use crate::config::{
    AddressFrom, BalanceHash, Bond, BondMode, Config, LacpRate, Link, LinkKind, MtuFrom,
    NetworkName, Node, NodeAddress, NodeNetwork,
};
use crate::names::IfName;

/// Every link of the node.
pub(super) fn links(node: &Node) -> Vec<Section> {
    node.links.iter().map(|(name, link)| one_link(node, name, link)).collect()
}

fn one_link(node: &Node, name: &IfName, link: &Link) -> Section {
    let mut facts = match &link.kind {
        LinkKind::Nic(choice) => {
            vec![fact("is", format!("the NIC with {choice}"), format!("links.{name}.nic"))]
        }
        LinkKind::Bond(bond) => bond_facts(name, bond),
        LinkKind::Vlan { parent, id } => {
            vec![fact("is", format!("VLAN {id} on {parent}"), format!("links.{name}.vlan"))]
        }
        LinkKind::Bridge { ports } => {
            let ports = list(ports, "no ports");
            vec![fact("is", format!("a bridge of {ports}"), format!("links.{name}.bridge"))]
        }
    };
    if let Some(master) = node.master_of(name) {
        facts.push(fact("port of", master, format!("links.{master}")));
    }
    facts.push(fact("mtu", link.mtu, mtu_because(&link.mtu_from)));
    section(format!("link {name}"), facts)
}

fn bond_facts(name: &IfName, bond: &Bond) -> Vec<Fact> {
    let mode = bond.mode.name();
    let because = format!("links.{name}.bond");
    let mut facts = vec![fact("is", format!("a bond of {}", list(&bond.ports, "")), because)];
    facts.push(fact("mode", mode, "given"));
    match &bond.mode {
        BondMode::Lacp { rate, hash } => {
            facts.push(setting("lacp rate", &word(rate), &word(&LacpRate::Slow)));
            facts.push(setting("hash policy", &word(hash), &word(&BalanceHash::Layer2)));
        }
        BondMode::ActiveBackup { primary } => {
            let because = if primary.is_some() { "given" } else { "not given: the kernel chooses" };
            facts.push(fact("primary", list(primary, "none"), because));
        }
        BondMode::BalanceXor { hash } => {
            facts.push(setting("hash policy", &word(hash), &word(&BalanceHash::Layer2)));
        }
    }
    facts
}

fn mtu_because(from: &MtuFrom) -> String {
    match from {
        MtuFrom::Given => "given".to_owned(),
        MtuFrom::Default => "Ethernet's own, where nothing is given".to_owned(),
        MtuFrom::Under(link) => format!("that of {link}, which carries it"),
        MtuFrom::Over(link) => format!("that of {link}, whose port it is"),
    }
}

/// Every core network as the node sits on it, and those that are the same as another.
pub(super) fn networks(config: &Config, node: &Node) -> Vec<Section> {
    NetworkName::ALL.iter().filter_map(|name| one_network(config, node, *name)).collect()
}

fn one_network(config: &Config, node: &Node, name: NetworkName) -> Option<Section> {
    let network = node.network(name)?;
    let facts = if network.name == name {
        own_network(config, network)
    } else {
        vec![fact("same as", network.name, format!("networks.{name}.same_as"))]
    };
    Some(section(format!("network {name}"), facts))
}

fn own_network(config: &Config, network: &NodeNetwork) -> Vec<Fact> {
    let mut facts = vec![fact("link", &network.link, "given")];
    facts.push(fact("mtu", network.mtu, mtu_because(&network.mtu_from)));
    for address in &network.addresses {
        facts.push(fact("address", address.address, address_because(address)));
        if let Some(gateway) = address.gateway {
            facts.push(fact("gateway", gateway, "given: the default route leads there"));
        }
    }
    let subnets = config.networks.get(network.name).into_iter().flat_map(|net| &net.subnets);
    for floating in subnets.filter_map(|subnet| subnet.floating) {
        facts.push(fact("floating", floating, "given: the primary coordinator holds it"));
    }
    facts
}

fn address_because(address: &NodeAddress) -> String {
    let net = address.address.trunc();
    match address.from {
        AddressFrom::Given => "given for this node".to_owned(),
        AddressFrom::NodeId => {
            let number = host_number(address.address);
            format!("host number {number} = node ID {number} in {net}")
        }
    }
}

fn host_number(address: IpNet) -> u128 {
    match (address.addr(), address.network()) {
        (IpAddr::V4(host), IpAddr::V4(net)) => u128::from(u32::from(host) - u32::from(net)),
        (IpAddr::V6(host), IpAddr::V6(net)) => u128::from(host) - u128::from(net),
        _ => 0,
    }
}
