//! An operator's cluster file as it can stand in containers: what is not to be had there becomes the lab's own, or is left
//! out, and each change is told with its reason. All else stays as it is: roles, quorums, timing, who is where.
//!
//! Addresses stay. The lab's networks are namespaces without any way out, so nothing in them meets the real cluster, and
//! what follows from addresses (names, certificates, monitors, sessions) is then what it will be. The lab itself is the
//! gateway, and a neighbour by an address that no node has.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Serialize;
use serde_yaml::{Mapping, Value};
use trilith_core::config::{
    Config, Disk, DiskKind, FailureDomain, LinkKind, NetworkName, NicChoice, Node, Osd, Transport,
};
use trilith_core::names::{ByteSize, IfName, NodeId};

/// A cluster file for the lab.
#[derive(Debug)]
pub struct Remapped {
    /// Its text.
    pub file: String,
    /// What is different, and why.
    pub changes: Vec<Change>,
}

/// Something that is different in the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The keys of the cluster file.
    pub keys: String,
    /// What becomes of them, and why.
    pub what: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.keys, self.what)
    }
}

/// Makes a cluster file one for the lab. An error says why there is nothing to rehearse with it.
pub fn remap(text: &str) -> Result<Remapped> {
    let config = trilith_core::config::load(text)
        .map_err(|problems| anyhow!("the cluster file has errors: {problems:#?}"))?;
    let count = config.coordinators.len();
    ensure!(
        count > 1,
        "{count} coordinator: every quorum is gone while it restarts, and no wave takes it away"
    );
    ensure!(
        config.nodes.values().any(|node| !node.osds.is_empty()),
        "no node has OSDs: Ceph takes no writes, and no wave goes over a cluster whose data is not safe"
    );
    let file = serde_yaml::from_str(text)?;
    let mut remap = Remap { config: &config, file, changes: Vec::new() };
    remap.links()?;
    remap.disks()?;
    remap.machines()?;
    remap.outside();
    remap.memory();
    let file = serde_yaml::to_string(&remap.file)?;
    Ok(Remapped { file, changes: remap.changes })
}

struct Remap<'a> {
    config: &'a Config,
    file: Value,
    changes: Vec<Change>,
}

impl<'a> Remap<'a> {
    fn tell(&mut self, keys: &str, what: impl Into<String>) {
        self.changes.push(Change { keys: keys.to_owned(), what: what.into() });
    }

    /// A section of the file, if it is there.
    fn section(&mut self, name: &str) -> Option<&mut Mapping> {
        self.file.get_mut(name)?.as_mapping_mut()
    }

    /// A section of the file, made if it is not there.
    fn own_section(&mut self, name: &str) -> &mut Value {
        let section = &mut self.file[name];
        if !section.is_mapping() {
            *section = Value::Mapping(Mapping::new());
        }
        section
    }

    /// Takes a key out of a section. `false`: it was not there.
    fn leave_out(&mut self, section: &str, key: &str) -> bool {
        self.section(section).is_some_and(|section| section.shift_remove(key).is_some())
    }

    /// Does something with each node: what the file says of it, and what that means.
    fn each_node(
        &mut self,
        mut act: impl FnMut(&'a Node, &mut Mapping) -> Result<()>,
    ) -> Result<()> {
        let nodes = self.file["nodes"].as_sequence_mut().context("no list of nodes")?;
        for node in nodes {
            let node = node.as_mapping_mut().context("a node that is no map")?;
            let id = node.get("id").and_then(Value::as_u64).context("a node without an ID")?;
            let id = NodeId::try_from(u16::try_from(id)?)?;
            act(self.config.node(id).context("a node that is not in the cluster")?, node)?;
        }
        Ok(())
    }

    /// Every link that carries a core network becomes a NIC of its own. Bonds, VLANs and bridges are what the kernel of
    /// this machine may not know, and their other ends would be switches that are not here.
    fn links(&mut self) -> Result<()> {
        if self.config.nodes.values().all(has_plain_nics) {
            return Ok(());
        }
        let mut told = BTreeSet::new();
        self.each_node(|node, own| {
            let mut links = Mapping::new();
            for (number, name) in carriers(node).into_iter().enumerate() {
                let link = node.links.get(name).context("a network on no link")?;
                let mut nic = Mapping::new();
                nic.insert("mac".into(), mac(node, number).into());
                let mut plain = Mapping::new();
                plain.insert("nic".into(), nic.into());
                plain.insert("mtu".into(), u32::from(link.mtu).into());
                links.insert(name.as_str().into(), plain.into());
                told.insert(format!("{name} ({})", kind(&link.kind)));
            }
            own.insert("links".into(), links.into());
            Ok(())
        })?;
        if let Some(file) = self.file.as_mapping_mut() {
            file.shift_remove("links");
        }
        let told: Vec<String> = told.into_iter().collect();
        self.tell(
            "links",
            format!("a network card of the lab each, with its MTU: {}", told.join(", ")),
        );
        Ok(())
    }

    /// As many OSDs as it takes: what a wave takes away is a node with all that are on it.
    fn disks(&mut self) -> Result<()> {
        if self.config.nodes.values().flat_map(|node| &node.osds).all(is_plain) {
            return Ok(());
        }
        let (mut before, mut after) = (0, 0);
        let ceph = &self.config.settings.ceph;
        let apart = ceph.failure_domain == FailureDomain::Osd;
        let most = if apart { ceph.pool.size.into() } else { 1 };
        self.each_node(|node, own| {
            let mut osds = Vec::new();
            for rule in &node.osds {
                let count = usize::from(rule.count.get()) * usize::from(rule.per_disk.get());
                let (first, few) = (osds.len(), count.min(most));
                before += count;
                osds.extend((first..first + few).map(|number| osd(number, class(rule))));
            }
            after += osds.len();
            own.insert("osds".into(), osds.into());
            Ok(())
        })?;
        self.leave_out("node_defaults", "osds");
        let why = if most == 1 { "one for each rule" } else { "each on its own" };
        self.tell(
            "osds",
            format!(
                "{after} plain ones on files here, not {before}, {why}: what restarts is the whole node"
            ),
        );
        Ok(())
    }

    /// What belongs to real machines.
    fn machines(&mut self) -> Result<()> {
        for (key, why) in [
            ("match", "nodes are given their bundles, nothing is recognised"),
            ("bmc", "nobody is fenced here"),
            ("system_disk", "nodes start from the releases themselves, a folder stands for slots"),
            ("var_disk", "/var is a folder of the lab"),
            ("wipe", "no disk of this machine is touched"),
        ] {
            let mut found = self.leave_out("node_defaults", key);
            self.each_node(|_, own| {
                found |= own.shift_remove(key).is_some();
                Ok(())
            })?;
            if found {
                self.tell(key, format!("left out: {why}"));
            }
        }
        let small = ByteSize::mib(1024);
        if self.config.nodes.values().all(|it| it.reserve.cpus <= 1 && it.reserve.memory <= small) {
            return Ok(());
        }
        self.each_node(|_, own| {
            own.shift_remove("reserve");
            Ok(())
        })?;
        let reserve = &mut self.own_section("node_defaults")["reserve"];
        *reserve = Value::Mapping(Mapping::new());
        reserve["cpus"] = 1.into();
        reserve["memory"] = "1GiB".into();
        self.tell("reserve", "1 CPU and 1GiB: no machines run here from which to keep more");
        Ok(())
    }

    /// What would meet nobody in a network that leads nowhere.
    fn outside(&mut self) {
        let upstream = self.config.networks.get(NetworkName::Upstream);
        let subnets = upstream.map(|network| network.subnets.as_slice()).unwrap_or_default();
        let gateways = subnets.iter().filter_map(|it| it.gateway.filter(|at| it.net.contains(at)));
        let gateway: Option<Value> = gateways.map(|it| it.to_string().into()).next();
        for key in ["time", "dns"] {
            let servers = self.file.get(key).and_then(|it| it.get("servers")).cloned();
            let ours = gateway.iter().cloned().collect::<Vec<_>>();
            if servers.is_none_or(|servers| servers == Value::Sequence(ours.clone())) {
                continue;
            }
            if gateway.is_some() {
                self.own_section(key)["servers"] = ours.into();
                self.tell(key, "the gateway, which is the lab: no server is reached");
            } else {
                self.leave_out(key, "servers");
                self.tell(key, "left out: no server is reached");
            }
        }
        if self.leave_out("frr", "peers") {
            self.tell("frr.peers", "left out: the routers upstream are not here");
        }
        if self.leave_out("logging", "remote") {
            self.tell("logging.remote", "left out: the log server is not here");
        }
        self.update();
        self.tell("ssh.keys", "one that is made for the lab");
        self.tell("secrets", "made for the lab: yours are not read");
    }

    fn update(&mut self) {
        let window = self.leave_out("update", "window");
        let update = self.own_section("update");
        update["source"] = "https://releases.invalid/".into();
        update["trust"] = "5".repeat(64).into();
        self.tell(
            "update.source, update.trust",
            "nobody's: nothing is fetched, the releases are here",
        );
        if window {
            self.tell("update.window", "left out: the rehearsal does not wait for it");
        }
    }

    /// Less memory, where the data that needs it is not here.
    fn memory(&mut self) {
        let settings = &self.config.settings;
        let (heap, buffers) = (settings.zookeeper.heap, settings.postgres.shared_buffers);
        for (section, key, now, enough) in [
            ("zookeeper", "heap", heap, ByteSize::mib(256)),
            ("postgres", "shared_buffers", buffers, ByteSize::mib(128)),
        ] {
            if now > enough {
                self.own_section(section)[key] = enough.to_string().into();
                let what = format!("{enough} instead of {now}: your data is not here");
                self.tell(&format!("{section}.{key}"), what);
            }
        }
    }
}

/// Whether all links of a node are NICs that the lab can plug in as they are.
fn has_plain_nics(node: &Node) -> bool {
    let plain = |kind: &LinkKind| matches!(kind, LinkKind::Nic(NicChoice::Mac(_)));
    node.links.len() == carriers(node).len() && node.links.values().all(|link| plain(&link.kind))
}

/// The links that carry core networks, each once.
fn carriers(node: &Node) -> Vec<&IfName> {
    let mut names: Vec<&IfName> = Vec::new();
    for network in &node.networks {
        if !names.contains(&&network.link) {
            names.push(&network.link);
        }
    }
    names
}

/// Locally administered, and of no other NIC of the lab.
fn mac(node: &Node, number: usize) -> String {
    let id = u16::from(node.id);
    format!("52:54:02:{:02x}:{:02x}:{number:02x}", id >> 8, id & 0xff)
}

fn kind(kind: &LinkKind) -> String {
    let all = |names: &[IfName]| names.iter().map(IfName::as_str).collect::<Vec<_>>().join(" and ");
    match kind {
        LinkKind::Nic(_) => "a NIC".into(),
        LinkKind::Bond(bond) => format!("a bond of {}", all(&bond.ports)),
        LinkKind::Vlan { parent, id } => format!("VLAN {} of {parent}", u16::from(*id)),
        LinkKind::Bridge { ports } if ports.is_empty() => "a bridge".into(),
        LinkKind::Bridge { ports } => format!("a bridge of {}", all(ports)),
    }
}

/// Whether the lab has such a disk: it is found by a name that the lab gives it.
fn is_plain(osd: &Osd) -> bool {
    let Disk { id, path, .. } = &osd.disk;
    let name = Disk { id: id.clone(), path: path.clone(), ..Disk::default() };
    let named = id.is_some() != path.is_some() && osd.disk == name;
    let alone = osd.count.get() == 1 && osd.per_disk.get() == 1;
    named && alone && osd.class.is_some() && osd.db.is_none() && !osd.encrypted
}

/// What Ceph would call the real disk.
fn class(rule: &Osd) -> DiskKind {
    let nvme = rule.disk.transport == Some(Transport::Nvme);
    let fallback = if nvme { DiskKind::Nvme } else { DiskKind::Ssd };
    rule.class.or(rule.disk.kind).unwrap_or(fallback)
}

fn osd(number: usize, class: DiskKind) -> Value {
    let mut disk = Mapping::new();
    disk.insert("id".into(), format!("lab-osd{number}").into());
    let mut osd = Mapping::new();
    osd.insert("disk".into(), disk.into());
    osd.insert("class".into(), class.to_string().into());
    osd.into()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::artifact;
    use crate::lab::Plan;

    /// Each valid sample, as it is in tests/clusters/rehearsed. `TRILITH_BLESS=1` writes what it is now.
    #[test]
    fn every_sample_can_be_rehearsed() {
        let golden = artifact::repository().join("tests/clusters/rehearsed");
        let mut failed = String::new();
        let mut seen = 0;
        for entry in fs::read_dir(artifact::cluster("")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|it| it != "yaml") {
                continue;
            }
            seen += 1;
            let remapped = remap(&fs::read_to_string(&path).unwrap()).unwrap();
            let config = trilith_core::config::load(&remapped.file)
                .unwrap_or_else(|problems| panic!("{}: {problems:#?}", path.display()));
            Plan::wires(&config).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
            let mut text = String::new();
            for change in &remapped.changes {
                writeln!(text, "# {change}").unwrap();
            }
            text += &remapped.file;
            compare(&golden.join(path.file_name().unwrap()), &text, &mut failed);
        }
        assert!(seen >= 5, "{seen} samples");
        assert!(failed.is_empty(), "{failed}");
    }

    fn compare(golden: &Path, text: &str, failed: &mut String) {
        if std::env::var_os("TRILITH_BLESS").is_some() {
            fs::create_dir_all(golden.parent().unwrap()).unwrap();
            fs::write(golden, text).unwrap();
        }
        if fs::read_to_string(golden).unwrap_or_default() != text {
            writeln!(failed, "{}:\n{text}", golden.display()).unwrap();
        }
    }

    fn lab(change: impl FnOnce(&mut Value)) -> String {
        let text = fs::read_to_string(artifact::cluster("lab.yaml")).unwrap();
        let mut file: Value = serde_yaml::from_str(&text).unwrap();
        change(&mut file);
        serde_yaml::to_string(&file).unwrap()
    }

    #[test]
    fn a_file_for_the_lab_stays_as_it_is_but_for_what_is_made_there() {
        let remapped = remap(&lab(|_| {})).unwrap();
        let keys: Vec<&str> = remapped.changes.iter().map(|change| change.keys.as_str()).collect();
        assert_eq!(keys, ["update.source, update.trust", "ssh.keys", "secrets"]);
        let (before, after) = (
            trilith_core::config::load(&lab(|_| {})).unwrap(),
            trilith_core::config::load(&remapped.file).unwrap(),
        );
        assert_eq!(before.nodes, after.nodes);
        assert_eq!(before.networks, after.networks);
    }

    #[test]
    fn what_cannot_be_rehearsed_is_refused_with_the_reason() {
        let one = lab(|file| file["coordinators"] = Value::Sequence(vec![1.into()]));
        let error = remap(&one).unwrap_err().to_string();
        assert!(error.starts_with("1 coordinator: every quorum is gone"), "{error}");
        let none = lab(|file| file["node_defaults"]["osds"] = Value::Sequence(Vec::new()));
        let error = remap(&none).unwrap_err().to_string();
        assert!(error.starts_with("no node has OSDs"), "{error}");
    }

    #[test]
    fn where_copies_are_kept_apart_by_disks_there_are_as_many() {
        let file = lab(|file| {
            let rule = &mut file["node_defaults"]["osds"][0];
            rule["disk"] = Value::Mapping(Mapping::new());
            rule["disk"]["kind"] = "hdd".into();
            rule["count"] = 8.into();
            file["ceph"]["failure_domain"] = "osd".into();
        });
        let remapped = remap(&file).unwrap();
        let config = trilith_core::config::load(&remapped.file).unwrap();
        assert!(config.nodes.values().all(|node| node.osds.len() == 3), "{}", remapped.file);
    }
}
