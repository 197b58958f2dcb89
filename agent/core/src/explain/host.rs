//! What is set on the host as a whole: routes, units, files.

use super::{Fact, Section, fact, section};
use crate::config::Config;
use crate::names::NodeId;
use crate::network::Route;
use crate::{node, services};

/// Routes beyond those that the kernel makes of addresses.
pub(super) fn routes(config: &Config, id: NodeId) -> Option<Section> {
    let desired = node::network(config, id)?;
    let facts: Vec<Fact> = desired.routes.iter().map(route).collect();
    (!facts.is_empty()).then(|| section("routes", facts))
}

fn route(route: &Route) -> Fact {
    let Route { destination, gateway, link, metric: _ /* only orders them */, mtu } = route;
    let mtu = mtu.map_or_else(String::new, |mtu| format!(", packets up to {mtu} bytes"));
    match gateway {
        Some(gateway) => fact(
            destination.to_string(),
            format!("via {gateway} on {link}{mtu}"),
            "the gateway of upstream",
        ),
        None => fact(
            destination.to_string(),
            format!("on {link}{mtu}"),
            "the network's MTU is less than the link's",
        ),
    }
}

/// What the agent starts and writes.
pub(super) fn services(config: &Config, id: NodeId) -> Option<Section> {
    let desired = node::services_outline(config, id)?;
    let units = desired.units.keys();
    let units = units.map(|unit| fact("unit", unit.as_str(), "the agent keeps it running"));
    let instances = desired.instances.iter().map(|(template, instances)| {
        let why = format!("one for each {}/{}*", instances.folder, instances.prefix);
        fact("units", template.as_str(), why)
    });
    let files = desired.files.iter().map(|(path, file)| {
        let services::File { mode, owner, checker, content: _ /* partly secret */ } = file;
        let because = match checker {
            None => "the agent writes it".to_owned(),
            Some(checker) => format!("the agent writes it when {checker} takes it"),
        };
        fact("file", format!("{path}, mode {mode:04o}, {owner}"), because)
    });
    let facts: Vec<Fact> = units.chain(instances).chain(files).collect();
    (!facts.is_empty()).then(|| section("units and files", facts))
}
