//! Splits the cluster file into what each subject of one node should be.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::{
    BalanceHash, Bond, BondMode, Config, LacpRate, Link, LinkKind, NicChoice, Node, NodeAddress,
    NodeNetwork,
};
use crate::names::{IfName, Mtu, NodeId};
use crate::secrets::needs::{CEPH_EVERYWHERE, Needs};
use crate::secrets::{NodeSecrets, Secret};
use crate::{ceph, frr, libvirt, network, osds, patroni, pools, render, services, zookeeper};

#[cfg(test)]
mod tests;

/// Kernel parameters of the whole host. A node routes for its machines; which packets pass is the firewall's.
///
/// `rp_filter` and `send_redirects` are the larger of `all` and the link's own, so `all` must be 0 for the
/// link's to count; a secondary address must survive the removal of the primary one of its subnet.
const HOST_SYSCTLS: [(&str, &str); 9] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv4/conf/all/promote_secondaries", "1"),
    // Links made later start with these, before anybody can write theirs.
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitation_delay", "0"),
];

/// Kernel parameters of each link that can carry addresses.
const LINK_SYSCTLS: [(&str, &str); 9] = [
    ("ipv4/forwarding", "1"),
    ("ipv6/forwarding", "1"),
    // Loose: a packet may come in where the way back does not lead, as with two networks of one peer.
    ("ipv4/rp_filter", "2"),
    ("ipv4/send_redirects", "0"),
    // A link answers for its own addresses only: two NICs on one switch must not speak for each other.
    ("ipv4/arp_ignore", "1"),
    ("ipv4/arp_announce", "2"),
    // Every address and route comes from the cluster file.
    ("ipv6/accept_ra", "0"),
    ("ipv6/accept_redirects", "0"),
    // Duplicate address detection waits for up to this many seconds before it asks (RFC 4862, 5.4.2, so that
    // a hall of machines after a power cut does not ask at once; these few nodes may).
    ("ipv6/router_solicitation_delay", "0"),
];

/// What the node's network should be; `None` if the cluster has no such node.
pub fn network(config: &Config, id: NodeId) -> Option<network::Desired> {
    let node = config.node(id)?;
    let links =
        node.links.iter().map(|(name, link)| (name.clone(), desired_link(node, name, link)));
    Some(network::Desired {
        links: links.collect(),
        routes: subnet_routes(node).chain(default_routes(node)).collect(),
        sysctls: texts(&HOST_SYSCTLS),
        link_sysctls: texts(&LINK_SYSCTLS),
    })
}

/// The units and files of the node; `None` if the cluster has no such node.
pub fn services(config: &Config, id: NodeId, secrets: &NodeSecrets) -> Option<services::Desired> {
    Some(render::services(render::Facts::new(config, id, secrets)?))
}

/// The same units and paths without the secrets, whose place in the files is empty: for people who look at the cluster
/// file. `None` if the cluster has no such node.
pub fn services_outline(config: &Config, id: NodeId) -> Option<services::Desired> {
    let needs = Needs::of(config, config.node(id)?);
    services(config, id, &NodeSecrets::blank(&needs))
}

/// Which ensemble the node belongs to; a node that is no coordinator has nothing to do for it.
pub fn zookeeper(config: &Config, id: NodeId, secrets: &NodeSecrets) -> zookeeper::Desired {
    zookeeper::Desired {
        node: id,
        members: config.coordinator_nodes().map(|node| (node.id, node.name.clone())).collect(),
        cluster: secrets.ceph.fsid.clone(),
    }
}

/// Which monitors Ceph has; a node that is no coordinator has nothing to do for them.
pub fn ceph(config: &Config, id: NodeId, secrets: &NodeSecrets) -> ceph::Desired {
    let network = config.settings.ceph.public_network;
    // The same address as in `ceph.conf`: the first of the network.
    let address = |node: &Node| Some(node.network(network)?.addresses.first()?.address.addr());
    let nodes = || config.coordinator_nodes();
    ceph::Desired {
        node: id,
        members: nodes().map(|node| (node.id, node.name.clone())).collect(),
        addresses: nodes().filter_map(|node| Some((node.id, address(node)?))).collect(),
        cluster: secrets.ceph.fsid.clone(),
    }
}

/// The disks that carry OSDs on the node.
pub fn osds(config: &Config, id: NodeId, secrets: &NodeSecrets) -> osds::Desired {
    let node = config.node(id);
    let rules = node.into_iter().flat_map(|node| &node.osds).map(osds::Rule::of).collect();
    let system =
        node.and_then(|node| node.system_disk.as_ref().or(node.var_disk.as_ref())).cloned();
    osds::Desired { cluster: secrets.ceph.fsid.clone(), node: id.into(), rules, system }
}

/// Ceph's pools, the same for every node: one for the disks of machines, as the cluster file says that pools are; and what
/// its clients may.
pub fn pools(config: &Config) -> pools::Desired {
    let ceph = &config.settings.ceph;
    let domain = render::ceph::failure_domain(&ceph.failure_domain).to_owned();
    let wish = pools::Wish { size: ceph.pool.size, min_size: ceph.pool.min_size, domain };
    let may = |client: &str| {
        let all = render::ceph::capabilities(client).iter();
        all.map(|(kind, allowed)| ((*kind).to_owned(), (*allowed).to_owned())).collect()
    };
    pools::Desired {
        pools: [(pools::MACHINES.to_owned(), wish)].into(),
        clients: CEPH_EVERYWHERE.map(|client| (client.to_owned(), may(client))).into(),
    }
}

/// Which database cluster the node belongs to; a node that is no coordinator has nothing to do for it.
pub fn patroni(config: &Config, id: NodeId, secrets: &NodeSecrets) -> patroni::Desired {
    let postgres = &config.settings.postgres;
    patroni::Desired {
        node: id,
        members: config.coordinator_nodes().map(|node| (node.id, node.name.clone())).collect(),
        synchronous: postgres.patroni.synchronous,
        shared: render::patroni::dynamic(postgres),
        port: postgres.port,
        accounts: secrets.postgres.iter().flat_map(render::patroni::accounts).collect(),
    }
}

/// The routing sessions of the node; `None` if the cluster has no such node.
pub fn frr(config: &Config, id: NodeId, secrets: &NodeSecrets) -> Option<frr::Desired> {
    Some(render::frr::sessions(render::Facts::new(config, id, secrets)?))
}

/// What libvirt should have; a node without Ceph's key for machines gives it none.
pub fn libvirt(config: &Config, id: NodeId, secrets: &NodeSecrets) -> libvirt::Desired {
    let key = secrets.ceph.keys.get(libvirt::ENTITY);
    let uuid = &secrets.ceph.libvirt_uuid;
    let secret = |key: &Secret| libvirt::StorageSecret { uuid: uuid.clone(), key: key.clone() };
    let reserve = config.node(id).map(|node| node.reserve);
    libvirt::Desired { secret: key.map(secret), reserve }
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn desired_link(node: &Node, name: &IfName, link: &Link) -> network::Link {
    let Link { kind, mtu, mtu_from: _ /* for people */ } = link;
    network::Link {
        kind: match kind {
            LinkKind::Nic(choice) => network::Kind::Nic(selector(choice)),
            LinkKind::Bond(bond) => network::Kind::Bond(desired_bond(bond)),
            LinkKind::Vlan { parent, id } => {
                network::Kind::Vlan { parent: parent.clone(), id: *id }
            }
            LinkKind::Bridge { ports: _ /* each port names its master */ } => network::Kind::Bridge,
        },
        mtu: *mtu,
        master: node.master_of(name).cloned(),
        addresses: addresses_on(node, name).map(|address| address.address).collect::<BTreeSet<_>>(),
    }
}

fn selector(choice: &NicChoice) -> network::NicSelector {
    let any = network::NicSelector::default();
    match choice {
        NicChoice::Name(name) => network::NicSelector { name: Some(name.clone()), ..any },
        NicChoice::Mac(mac) => network::NicSelector { mac: Some(*mac), ..any },
        NicChoice::Path(path) => network::NicSelector { pci: Some(path.to_string()), ..any },
        NicChoice::Driver(driver) => {
            network::NicSelector { driver: Some(driver.to_string()), ..any }
        }
    }
}

fn desired_bond(bond: &Bond) -> network::Bond {
    let plain = network::Bond::new(network::BondMode::ActiveBackup);
    match &bond.mode {
        BondMode::Lacp { rate, hash } => network::Bond {
            mode: network::BondMode::Lacp,
            lacp_rate: match rate {
                LacpRate::Slow => network::LacpRate::Slow,
                LacpRate::Fast => network::LacpRate::Fast,
            },
            xmit_hash_policy: policy(*hash),
            ..plain
        },
        BondMode::ActiveBackup { primary } => network::Bond { primary: primary.clone(), ..plain },
        BondMode::BalanceXor { hash } => network::Bond {
            mode: network::BondMode::BalanceXor,
            xmit_hash_policy: policy(*hash),
            ..plain
        },
    }
}

fn policy(hash: BalanceHash) -> network::XmitHashPolicy {
    match hash {
        BalanceHash::Layer2 => network::XmitHashPolicy::Layer2,
        BalanceHash::Layer2And3 => network::XmitHashPolicy::Layer23,
        BalanceHash::Layer3And4 => network::XmitHashPolicy::Layer34,
    }
}

fn addresses_on<'a>(node: &'a Node, link: &'a IfName) -> impl Iterator<Item = &'a NodeAddress> {
    node.networks.iter().filter(move |net| net.link == *link).flat_map(|net| &net.addresses)
}

/// Metric of a route that comes before the kernel's own to the same subnet (256).
const BEFORE_THE_KERNELS: u32 = 128;

/// A network whose packets must be smaller than its link allows, such as an upstream with 1500 bytes on a
/// link that it shares with a storage network with 9000.
fn subnet_routes(node: &Node) -> impl Iterator<Item = network::Route> {
    let smaller = node.networks.iter().filter(|net| smaller_mtu(node, net).is_some());
    smaller.flat_map(|net| {
        net.addresses.iter().map(|address| network::Route {
            destination: address.address.trunc(),
            gateway: None,
            link: net.link.clone(),
            metric: Some(BEFORE_THE_KERNELS),
            mtu: Some(net.mtu),
        })
    })
}

fn smaller_mtu(node: &Node, net: &NodeNetwork) -> Option<Mtu> {
    node.links.get(&net.link).filter(|link| net.mtu < link.mtu).map(|_| net.mtu)
}

fn default_routes(node: &Node) -> impl Iterator<Item = network::Route> {
    let with_gateway = node.networks.iter().flat_map(|net| {
        net.addresses.iter().filter_map(move |address| Some((net, address.gateway?)))
    });
    with_gateway.map(|(net, gateway)| network::Route {
        destination: if gateway.is_ipv4() {
            IpNet::V4(Ipv4Net::default())
        } else {
            IpNet::V6(Ipv6Net::default())
        },
        gateway: Some(gateway),
        link: net.link.clone(),
        metric: None,
        mtu: smaller_mtu(node, net),
    })
}
