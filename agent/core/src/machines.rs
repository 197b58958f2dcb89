//! Machines that run on a node, as libvirt describes them: what matters for where else they may run.
//!
//! libvirt refuses by itself what would lose data, and a move that it refuses halts a wave. So all that can be known
//! before is known here, as a reason for a person. Where libvirt would go on and do harm, this is stricter: a disk that
//! is a device of this node is another one's disk on the next.

use std::collections::BTreeMap;
use std::fmt;

use ring::digest::{SHA256, digest};
use roxmltree::{Document, Node};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// What QEMU needs for a machine besides the machine's memory: tables, caches, video and threads, rounded up.
const OVERHEAD: u64 = 256 << 20;

/// What the machines on a node have, and what is left for others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosting {
    /// How many CPUs machines may use.
    pub cpus: usize,
    /// How many bytes of memory are left for more of them.
    pub room: u64,
    /// QEMU's version, as `virConnectGetVersion` has it.
    pub qemu: u32,
    /// The node's processor with all that it can do; two with the same text are the same to a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// The machines that run, by UUID.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub machines: BTreeMap<String, Machine>,
}

/// A machine that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its memory in bytes.
    pub memory: u64,
    /// Its CPUs.
    pub cpus: usize,
    /// Whether its processor is the node's own, with all that this can do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passthrough: bool,
    /// Why it cannot move while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
}

/// Why a description is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// It is no XML.
    #[error("it is no XML: {0}")]
    Xml(#[from] roxmltree::Error),
    /// A part is not there, or is not what libvirt writes there.
    #[error("its <{0}> is missing or not understood")]
    Part(&'static str),
}

impl Machine {
    /// How much memory it takes on a node, in bytes.
    pub fn takes(&self) -> u64 {
        self.memory.saturating_add(OVERHEAD)
    }

    /// Out of libvirt's description of a machine that runs. `shared` tells of a path whether all nodes see the same there.
    ///
    /// # Errors
    /// It is not understood.
    pub fn read(xml: &str, shared: impl Fn(&str) -> bool) -> Result<Self, MachineError> {
        let document = Document::parse(xml)?;
        let root = document.root_element();
        let text = |name: &'static str| {
            let node = child(root, name).and_then(|node| node.text());
            node.ok_or(MachineError::Part(name))
        };
        let mut reasons = processor_reasons(root);
        let devices = child(root, "devices").ok_or(MachineError::Part("devices"))?;
        for device in devices.children().filter(Node::is_element) {
            reasons.extend(against(device, &shared));
        }
        let current = child(root, "vcpu").and_then(|vcpu| vcpu.attribute("current"));
        let cpus = current.map_or_else(|| text("vcpu"), Ok)?;
        Ok(Self {
            name: text("name")?.to_owned(),
            memory: memory(root).ok_or(MachineError::Part("memory"))?,
            cpus: cpus.trim().parse().map_err(|_| MachineError::Part("vcpu"))?,
            // Under KVM `maximum` is the node's own processor as well (libvirt, formatdomain, "CPU model and topology").
            passthrough: matches!(mode(root), Some("host-passthrough" | "maximum")),
            stuck: (!reasons.is_empty()).then(|| reasons.join(", and ")),
        })
    }

    /// One whose description nobody understands: it stays where it is.
    pub fn unknown(name: String, error: &MachineError) -> Self {
        let why = format!("libvirt's description of it is not understood: {error}");
        Self { name, stuck: Some(why), ..Self::default() }
    }
}

/// The node's processor out of libvirt's capabilities: vendor, model and all features; not the version of its microcode.
pub fn processor(capabilities: &str) -> Option<String> {
    let document = Document::parse(capabilities).ok()?;
    let cpu = child(child(document.root_element(), "host")?, "cpu")?;
    let text = |name| child(cpu, name).and_then(|node| node.text());
    let mut features: Vec<&str> = cpu
        .children()
        .filter(|node| node.has_tag_name("feature"))
        .filter_map(|node| node.attribute("name"))
        .collect();
    features.sort_unstable();
    let sum = digest(&SHA256, features.join(" ").as_bytes());
    let first = sum.as_ref().iter().take(6).fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    Some(format!("{} {} {first:012x}", text("vendor").unwrap_or("unknown"), text("model")?))
}

/// Bytes, for people.
pub fn size(bytes: u64) -> String {
    let tenths = |unit: u32| (bytes >> (unit - 10)).saturating_mul(10) >> 10;
    let (tenths, name) = if bytes >= 1 << 30 { (tenths(30), "GiB") } else { (tenths(20), "MiB") };
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

impl fmt::Display for Hosting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of memory left for machines, {} CPUs", size(self.room), self.cpus)
    }
}

fn child<'a, 'x>(node: Node<'a, 'x>, name: &str) -> Option<Node<'a, 'x>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// The mode of its processor.
fn mode<'a>(root: Node<'a, '_>) -> Option<&'a str> {
    child(root, "cpu")?.attribute("mode")
}

/// In KiB, as libvirt writes it whatever it was told.
fn memory(root: Node<'_, '_>) -> Option<u64> {
    let memory = child(root, "memory")?;
    let kib = memory.attribute("unit").is_none_or(|unit| unit == "KiB");
    let number: u64 = memory.text()?.trim().parse().ok()?;
    kib.then(|| number.checked_mul(1024)).flatten()
}

/// What of processor and memory keeps a machine here.
fn processor_reasons(root: Node<'_, '_>) -> Vec<String> {
    let mut reasons = Vec::new();
    if child(root, "cpu").and_then(|cpu| cpu.attribute("migratable")) == Some("off") {
        reasons.push("its processor is set up not to be moved (migratable='off')".to_owned());
    }
    let backing = child(root, "memoryBacking");
    if backing.and_then(|backing| child(backing, "hugepages")).is_some() {
        reasons
            .push("its memory is in huge pages, and nobody knows how many others have".to_owned());
    }
    reasons
}

/// Why a device keeps its machine here.
fn against(device: Node<'_, '_>, shared: &impl Fn(&str) -> bool) -> Option<String> {
    let kind = device.attribute("type").unwrap_or_default();
    match device.tag_name().name() {
        "hostdev" => Some(format!("it has a host device ({kind})")),
        "interface" if kind == "hostdev" => Some("it has a host device (network)".to_owned()),
        "disk" => disk(device, shared),
        "filesystem" => {
            let source = child(device, "source").and_then(|source| source.attribute("dir"));
            Some(format!("it sees the folder {} of this node", source.unwrap_or("of somebody")))
        }
        "shmem" => Some("it shares memory with others on this node".to_owned()),
        "tpm" => {
            let backend = child(device, "backend")?.attribute("type")?;
            (backend == "passthrough").then(|| "it has this node's TPM".to_owned())
        }
        _ => None,
    }
}

/// A disk that others do not have, with all that lies below it. One that is only read moves, as a CD does: whether it is
/// there on the other node, libvirt sees.
fn disk(disk: Node<'_, '_>, shared: &impl Fn(&str) -> bool) -> Option<String> {
    if child(disk, "readonly").is_some() {
        return None;
    }
    let name = child(disk, "target").and_then(|target| target.attribute("dev"));
    let below = disk.descendants().filter(|node| node.has_tag_name("backingStore"));
    let local = [disk].into_iter().chain(below).find_map(|layer| local(layer, shared))?;
    Some(format!("its disk {} is {local}", name.unwrap_or("without a name")))
}

/// What a layer of a disk is, if no other node has it.
fn local(layer: Node<'_, '_>, shared: &impl Fn(&str) -> bool) -> Option<String> {
    // The end of a chain has no type, and a drive without a medium no source.
    let (kind, source) = (layer.attribute("type")?, child(layer, "source")?);
    let of = |name| source.attribute(name).unwrap_or("somewhere");
    match kind {
        "network" => None,
        "file" => {
            let path = source.attribute("file")?;
            (!shared(path)).then(|| format!("the file {path} of this node"))
        }
        "block" => Some(format!("the device {} of this node", of("dev"))),
        "volume" => Some(format!("in the pool {} of this node", of("pool"))),
        other => Some(format!("of a kind that stays on this node ({other})")),
    }
}
