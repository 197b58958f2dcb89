//! What the cluster file means for one node: every derived value with its derivation. For people, and for
//! tests that compare it word by word.

mod hardware; // BMC, disks, what is reserved
mod host; // routes, units, files
mod network; // links, networks, addresses
mod services; // server numbers, names, routing, settings

use std::fmt;

use serde::Serialize;

use crate::config::{Config, Node, Role};
use crate::names::NodeId;

/// Everything derived for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The node's ID.
    pub node: NodeId,
    /// By subject, in the order in which things come up.
    pub sections: Vec<Section>,
}

/// Facts that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// What they are about.
    pub title: String,
    /// One by one.
    pub facts: Vec<Fact>,
}

/// One derived value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// What was derived.
    pub value: String,
    /// Why it is that.
    pub because: String,
}

/// Explains a node; `None` if the cluster has no such node.
pub fn explain(config: &Config, id: NodeId) -> Option<Explanation> {
    let node = config.node(id)?;
    let mut sections = vec![identity(config, node)];
    sections.extend(network::links(node));
    sections.extend(network::networks(config, node));
    sections.extend(host::routes(config, id));
    sections.push(hardware::hardware(node));
    sections.extend(services::services(config, node));
    sections.extend(host::services(config, id));
    sections.push(services::settings(config));
    Some(Explanation { node: id, sections })
}

fn fact(name: impl Into<String>, value: impl fmt::Display, because: impl Into<String>) -> Fact {
    Fact { name: name.into(), value: value.to_string(), because: because.into() }
}

/// A setting that the file may leave out.
fn setting<T: fmt::Display + PartialEq>(name: &str, value: &T, default: &T) -> Fact {
    fact(name, value, if value == default { "Trilith's default" } else { "given" })
}

fn section(title: impl Into<String>, facts: Vec<Fact>) -> Section {
    Section { title: title.into(), facts }
}

/// `a, b, c`, or a word for nothing.
fn list<T: ToString>(items: impl IntoIterator<Item = T>, nothing: &str) -> String {
    let words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if words.is_empty() { nothing.to_owned() } else { words.join(", ") }
}

/// A value's word in the cluster file.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn identity(config: &Config, node: &Node) -> Section {
    let role = match node.role {
        Role::Coordinator => format!("node {} is one of coordinators", node.id),
        Role::Hypervisor => format!("node {} is not one of coordinators", node.id),
    };
    let name = format!("{}.{}", node.name, config.domain);
    let recognised = &node.matches;
    let mut facts = vec![
        fact("id", node.id, "given"),
        fact("name", name, "name given, in cluster.domain"),
        fact("role", node.role, role),
    ];
    facts.extend(recognised.macs.iter().map(|mac| fact("match", format!("MAC {mac}"), "given")));
    let serial = recognised.serial.iter();
    facts.extend(serial.map(|serial| fact("match", format!("serial number {serial}"), "given")));
    let uuid = recognised.uuid.iter();
    facts.extend(uuid.map(|uuid| fact("match", format!("UUID {uuid}"), "given")));
    let tpm = recognised.tpm.iter();
    facts.extend(tpm.map(|tpm| fact("match", format!("TPM {tpm}"), "given")));
    if facts.len() == 3 {
        let because = "no match is given: the node needs its bundle on a medium or the disk";
        facts.push(fact("match", "nothing", because));
    }
    section(format!("node {} of cluster {}", node.id, config.name), facts)
}
