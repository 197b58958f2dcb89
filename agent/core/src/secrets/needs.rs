//! Which secrets a node needs, and so which it gets. The operator's tool fills a bundle by this, and the agent
//! judges a bundle by it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::{Config, Node, Role};
use crate::names::SecretName;

/// Ceph's entities that every node has.
pub(crate) const CEPH_EVERYWHERE: [&str; 2] = ["client.libvirt", "client.trilith"];

/// What one node must be given, and nothing beyond.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// What its certificate must say.
    pub names: CertificateNames,
    /// Whether it carries the quorums: then it has the accounts of Patroni and Postgres.
    pub coordinator: bool,
    /// Ceph's entities whose keys it uses.
    pub ceph: BTreeSet<String>,
    /// The secrets that the cluster file names and this node uses.
    pub named: BTreeSet<SecretName>,
}

/// Who a certificate is for: its subject, and by which names and addresses others reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The subject, which is this common name alone: ZooKeeper's access lists and libvirt's name each other's
    /// nodes by it, and with a single name all TLS libraries write it the same way.
    pub common: String,
    /// DNS names.
    pub dns: BTreeSet<String>,
    /// Addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl Needs {
    /// What `node` of the cluster needs.
    pub fn of(config: &Config, node: &Node) -> Self {
        let coordinator = node.role == Role::Coordinator;
        Self {
            names: CertificateNames::of(config, node),
            coordinator,
            ceph: ceph_entities(config, node),
            named: if coordinator { all_named(config) } else { BTreeSet::new() },
        }
    }
}

impl CertificateNames {
    /// The node's name, with and without the cluster's domain, and its core addresses. A coordinator answers
    /// for the floating addresses too, since any of them may come to hold them.
    pub fn of(config: &Config, node: &Node) -> Self {
        let name = node.name.as_str();
        let common = format!("{name}.{}", config.domain);
        let own = node.networks.iter().flat_map(|network| &network.addresses);
        let mut addresses: BTreeSet<IpAddr> = own.map(|address| address.address.addr()).collect();
        if node.role == Role::Coordinator {
            let subnets = config.networks.distinct.iter().flat_map(|network| &network.subnets);
            addresses.extend(subnets.filter_map(|subnet| subnet.floating));
        }
        Self { dns: BTreeSet::from([name.to_owned(), common.clone()]), common, addresses }
    }

    /// A person's, who is not reached by any name.
    pub fn person(name: &str) -> Self {
        Self { common: name.to_owned(), ..Self::default() }
    }
}

/// Ceph's manager on a coordinator is named like its node.
pub fn ceph_managers(config: &Config) -> impl Iterator<Item = String> {
    config.coordinator_nodes().map(|node| format!("mgr.{}", node.name))
}

/// Every entity of the cluster: the monitors that form it know them all from the start.
pub fn ceph_cluster(config: &Config) -> BTreeSet<String> {
    let fixed = ["mon.", "client.admin", "client.bootstrap-osd"];
    let fixed = fixed.into_iter().chain(CEPH_EVERYWHERE).map(str::to_owned);
    fixed.chain(ceph_managers(config)).collect()
}

fn ceph_entities(config: &Config, node: &Node) -> BTreeSet<String> {
    if node.role == Role::Coordinator {
        return ceph_cluster(config);
    }
    let disks = (!node.osds.is_empty()).then_some("client.bootstrap-osd");
    CEPH_EVERYWHERE.into_iter().chain(disks).map(str::to_owned).collect()
}

/// Every secret that the cluster file names: those of the routers upstream, with which the coordinators speak, and
/// those of the management controllers, through which the coordinators fence a node.
pub fn all_named(config: &Config) -> BTreeSet<SecretName> {
    let routers = config.settings.frr.iter().flat_map(|frr| &frr.peers);
    let routers = routers.filter_map(|peer| peer.secret.clone());
    let controllers = config.nodes.values().filter_map(|node| node.bmc.as_ref());
    routers.chain(controllers.map(|bmc| bmc.secret.clone())).collect()
}
