//! chrony: the coordinators keep time among themselves and serve it to the other nodes, with the time servers of the
//! cluster file or without any.

use std::fmt::Write as _;

use super::{Facts, HEADER};
use crate::config::NetworkName;
use crate::services::{Checker, Desired, File, UnitName, UnitWish};

/// The unit, on every node.
pub const UNIT: UnitName = UnitName::fixed("chrony.service");

/// The configuration.
pub const CONFIG: &str = "/etc/chrony/chrony.conf";

/// chrony on every node.
pub fn desired(facts: Facts<'_>) -> Desired {
    let mut desired = Desired::default();
    desired.files.insert(CONFIG.into(), File::new(config(facts)).checked_by(Checker::Chrony));
    desired.units.insert(UNIT, UnitWish::default().restarts_on(CONFIG));
    desired
}

/// `chrony.conf`.
fn config(facts: Facts<'_>) -> String {
    let mut text = HEADER.to_owned();
    for server in &facts.config.time_servers {
        let _ = writeln!(text, "server {server} iburst");
    }
    // Coordinators are equals; other nodes only ask.
    let kind = if facts.coordinates() { "peer" } else { "server" };
    for (node, address) in facts.coordinators(NetworkName::Cluster) {
        if node.id != facts.node.id {
            let _ = writeln!(text, "{kind} {address} iburst minpoll 4 maxpoll 7");
        }
    }
    if facts.coordinates() {
        text.push_str(&service(facts));
    } else {
        text.push_str("port 0\n");
    }
    text.push_str(CLOCK);
    text
}

/// What a coordinator gives.
///
/// Without a source that is better, one of them, always the same as long as it is seen, is everybody's time (`orphan`):
/// then all nodes agree even if all are wrong.
fn service(facts: Facts<'_>) -> String {
    let mut text = "local stratum 10 orphan\n".to_owned();
    let subnets =
        facts.config.networks.get(NetworkName::Cluster).into_iter().flat_map(|net| &net.subnets);
    for subnet in subnets {
        let _ = writeln!(text, "allow {}", subnet.net);
    }
    text
}

/// A clock that is wrong by more than a second is set, whenever that is found: certificates and Ceph's tickets need
/// the right time at once, and nothing of ours measures a span by it.
const CLOCK: &str = "\
makestep 1 -1
rtcsync
driftfile /var/lib/chrony/drift
dumpdir /var/lib/chrony
leapseclist /usr/share/zoneinfo/leap-seconds.list
# Asked only on this node, by its socket.
cmdport 0
";
