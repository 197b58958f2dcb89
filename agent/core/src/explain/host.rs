//! What is set on the host as a whole: routes, units, files.

use super::{Fact, Section, fact, section};
use crate::config::Config;
use crate::names::NodeId;
use crate::network::Route;
use crate::node;

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
    let desired = node::services(config, id)?;
    let units = desired.units.iter();
    let units = units.map(|unit| fact("unit", unit.as_str(), "the agent keeps it running"));
    let files = desired.files.iter().map(|(path, file)| {
        let value = format!("{path}, {} bytes, mode {:04o}", file.content.len(), file.mode);
        fact("file", value, "the agent writes it")
    });
    let facts: Vec<Fact> = units.chain(files).collect();
    (!facts.is_empty()).then(|| section("units and files", facts))
}
