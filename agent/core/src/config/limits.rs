//! How much there may be of anything. What defaults hold is multiplied by the number of nodes, so that
//! without bounds a small file could keep the check busy for hours. Real clusters are far below.

use super::check::Check;
use super::given::{Given, Table};
use super::problem::error;
use super::raw::{List, RawFile, RawLink};
use super::spots::Spot;
use crate::names::IfName;

/// Nodes of a cluster: four times what Trilith is meant for.
const MOST_NODES: usize = 4096;

/// Links of a node, and ports of a bond or bridge.
const MOST_LINKS: usize = 128;

/// OSD rules and labels of a node; a rule may stand for many disks.
const MOST_OSDS: usize = 64;
const MOST_LABELS: usize = 64;

/// Whether the file is of a size that can be judged; what is too much is told.
pub(super) fn within(check: Check<'_>, file: &RawFile) -> bool {
    let mut sound = list(check, &file.nodes, MOST_NODES, "nodes");
    sound &= links(check, &file.links);
    if let Some(defaults) = file.node_defaults.get() {
        sound &= list(check, &defaults.osds, MOST_OSDS, "OSD rules");
        sound &= table(check, &defaults.labels, MOST_LABELS, "labels");
    }
    for node in file.nodes.get().into_iter().flatten().filter_map(Given::get) {
        sound &= links(check, &node.links);
        sound &= list(check, &node.osds, MOST_OSDS, "OSD rules");
        sound &= table(check, &node.labels, MOST_LABELS, "labels");
    }
    sound
}

fn links(check: Check<'_>, links: &Given<Table<IfName, RawLink>>) -> bool {
    let mut sound = table(check, links, MOST_LINKS, "links");
    for (_, link) in links.get().into_iter().flat_map(Table::entries) {
        let Some(RawLink { bond, bridge, .. }) = link.get() else { continue };
        let ports = [bond.get().map(|bond| &bond.ports), bridge.get().map(|bridge| &bridge.ports)];
        for ports in ports.into_iter().flatten() {
            sound &= list(check, ports, MOST_LINKS, "ports");
        }
    }
    sound
}

fn list<T>(check: Check<'_>, list: &List<T>, most: usize, what: &str) -> bool {
    list.at().is_none_or(|(items, spot)| few(check, items.len(), spot, most, what))
}

fn table<K, V>(check: Check<'_>, table: &Given<Table<K, V>>, most: usize, what: &str) -> bool {
    table.at().is_none_or(|(entries, spot)| few(check, entries.0.len(), spot, most, what))
}

fn few(check: Check<'_>, count: usize, spot: Spot, most: usize, what: &str) -> bool {
    if count > most {
        let reason = format!("{count} {what} are more than Trilith can handle");
        check.tell(error(spot, reason).help(format!("give at most {most} here")));
    }
    count <= most
}
