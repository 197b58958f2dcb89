//! What a lab consists of: written when it is made, read by every later command.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use trilith_core::config::{Config, LinkKind, NetworkName, NicChoice, Node, NodeNetwork};
use trilith_core::names::IfName;

use crate::cluster::peer_addresses;

/// A whole lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The root file system of the image.
    pub root: PathBuf,
    /// Those of releases that have one of their own, by version.
    pub releases: BTreeMap<String, PathBuf>,
    /// The Debian tree that `systemd-nspawn` is in.
    pub tools: PathBuf,
    /// An agent in place of the image's own.
    pub agent: Option<PathBuf>,
    /// A folder laid over the root.
    pub overlay: Option<PathBuf>,
    /// Bridges, each with the addresses that the lab itself has on it.
    pub switches: Vec<Switch>,
    /// One container each.
    pub nodes: Vec<NodePlan>,
}

/// A switch of the lab.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Switch {
    /// The bridge's name.
    pub name: String,
    /// The core networks on it.
    pub networks: Vec<String>,
    /// The lab's own addresses there, with their prefix lengths: the gateway, and a neighbour to try ports from.
    pub addresses: Vec<String>,
}

/// A node of the lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodePlan {
    /// The node's ID.
    pub id: u16,
    /// The node's name, which is the container's.
    pub name: String,
    /// Its network cards.
    pub nics: Vec<NicPlan>,
    /// Its disks for OSDs.
    pub disks: Vec<DiskPlan>,
    /// What is added to its clock, as libfaketime reads it: `+600s`.
    pub clock: Option<String>,
}

/// A network card and where its cable ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NicPlan {
    /// The node's own name for it.
    pub name: String,
    /// Its Ethernet address.
    pub mac: String,
    /// The cable's other end, on the switch.
    pub port: String,
    /// The switch.
    pub switch: String,
}

/// A disk: a sparse file behind a loop device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiskPlan {
    /// The link below /dev/disk that the cluster file's rule asks for: `by-id/lab-osd0`.
    pub link: PathBuf,
    /// The file, in the node's folder.
    pub file: PathBuf,
    /// The loop device; nothing before the lab is up.
    pub device: Option<PathBuf>,
}

impl Plan {
    /// Reads it from a lab's folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Writes it into a lab's folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::write(folder.join(FILE), serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write into {}", folder.display()))
    }

    /// Whether these nodes can be cabled.
    pub fn wires(config: &Config) -> Result<()> {
        wire(config, &config.nodes.values().collect::<Vec<_>>()).map(drop)
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Result<&NodePlan> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| {
            let all: Vec<_> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            format!("no node {name} in this lab; there are {}", all.join(", "))
        })
    }
}

const FILE: &str = "lab.json";

/// Every address that a node has, or that the primary coordinator holds.
fn taken(config: &Config) -> BTreeSet<IpAddr> {
    let networks = config.nodes.values().flat_map(|node| &node.networks);
    let own = networks.flat_map(|network| &network.addresses).map(|own| own.address.addr());
    let subnets = config.networks.distinct.iter().flat_map(|network| &network.subnets);
    own.chain(subnets.filter_map(|subnet| subnet.floating)).collect()
}

/// Lays the cables of these nodes: links that carry the same core network end in the same switch.
pub(super) fn wire(config: &Config, nodes: &[&Node]) -> Result<(Vec<Switch>, Vec<NodePlan>)> {
    let (mut switches, taken) = (Vec::new(), taken(config));
    let nodes = nodes.iter().map(|node| plug(node, &mut switches, &taken));
    let nodes = nodes.collect::<Result<_>>()?;
    Ok((switches, nodes))
}

/// What the lab gives to one node.
fn plug(node: &Node, switches: &mut Vec<Switch>, taken: &BTreeSet<IpAddr>) -> Result<NodePlan> {
    let mut nics: BTreeMap<&IfName, NicPlan> = BTreeMap::new();
    for attached in &node.networks {
        let switch = switch(switches, attached, nics.get(&attached.link).map(|nic| &*nic.switch))?;
        switch.take(attached, taken);
        let number = nics.len();
        if !nics.contains_key(&attached.link) {
            nics.insert(&attached.link, nic(node, &attached.link, number, &switch.name)?);
        }
    }
    Ok(NodePlan {
        id: node.id.into(),
        name: node.name.to_string(),
        nics: nics.into_values().collect(),
        disks: disks(node)?,
        clock: None,
    })
}

/// The switch for this network, where `plugged` already holds the node's link if anything does.
fn switch<'a>(
    switches: &'a mut Vec<Switch>,
    network: &NodeNetwork,
    plugged: Option<&str>,
) -> Result<&'a mut Switch> {
    let name = network.name.to_string();
    let of_network = switches.iter().position(|switch| switch.networks.contains(&name));
    let of_link = switches.iter().position(|switch| plugged == Some(&switch.name));
    let number = match (of_network, of_link) {
        (Some(network), Some(link)) if network != link => {
            bail!("network {name} shares a NIC on some nodes alone, which the lab cannot cable")
        }
        (known, other) => known.or(other).unwrap_or(switches.len()),
    };
    if number == switches.len() {
        switches.push(Switch { name: format!("sw{number}"), ..Switch::default() });
    }
    Ok(&mut switches[number])
}

impl Switch {
    /// Carries this network from now on, and is a neighbour on it.
    fn take(&mut self, network: &NodeNetwork, taken: &BTreeSet<IpAddr>) {
        let networks =
            [&network.name].into_iter().chain(&network.shared_by).map(NetworkName::to_string);
        let own = network.addresses.iter();
        let addresses = own.flat_map(|own| peer_addresses(own.address, own.gateway, taken));
        self.networks.extend(networks);
        self.addresses.extend(addresses);
        for list in [&mut self.networks, &mut self.addresses] {
            list.sort();
            list.dedup();
        }
    }
}

/// The NIC that a link of the cluster file is.
fn nic(node: &Node, link: &IfName, number: usize, switch: &str) -> Result<NicPlan> {
    let id = u16::from(node.id);
    let mut nic = NicPlan {
        name: format!("eth{number}"),
        mac: format!("52:54:01:{:02x}:{:02x}:{number:02x}", id >> 8, id & 0xff),
        port: format!("n{id}p{number}"),
        switch: switch.to_owned(),
    };
    match node.links.get(link).map(|link| &link.kind) {
        Some(LinkKind::Nic(NicChoice::Name(name))) => nic.name = name.to_string(),
        Some(LinkKind::Nic(NicChoice::Mac(mac))) => nic.mac = mac.to_string(),
        _ => bail!(
            "node {}: link {link} is no NIC chosen by name or MAC, and the lab's host has nothing else; \
             virtual machines have all kinds: ci/demo, ci/vm",
            node.name
        ),
    }
    Ok(nic)
}

fn disks(node: &Node) -> Result<Vec<DiskPlan>> {
    let rules =
        node.osds.iter().flat_map(|osd| [Some(&osd.disk), osd.db.as_ref().map(|db| &db.disk)]);
    let links = rules.flatten().map(|disk| match (&disk.id, &disk.path) {
        (Some(id), _) => Ok(Path::new("by-id").join(id.as_str())),
        (None, Some(path)) => Ok(Path::new("by-path").join(path.as_str())),
        (None, None) => {
            bail!("node {}: the lab's disks can be chosen by id or path alone", node.name)
        }
    });
    let plan = |(number, link): (usize, Result<PathBuf>)| {
        Ok(DiskPlan { link: link?, file: format!("disk{number}.img").into(), device: None })
    };
    links.enumerate().map(plan).collect()
}
