//! What the host is called, and how names are looked up.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Facts, HEADER};
use crate::config::NetworkName;
use crate::services::{Desired, File, UnitName, UnitWish};

/// The unit that sets the host name, on every node.
pub const UNIT: UnitName = UnitName::fixed("trilith-hostname.service");

/// The host name.
pub const HOSTNAME: &str = "/etc/hostname";
/// The names of all nodes.
pub const HOSTS: &str = "/etc/hosts";
/// Which DNS servers are asked.
pub const RESOLVER: &str = "/etc/resolv.conf";

/// The most DNS servers that the C library asks (`MAXNS` in resolv.h).
const MOST_SERVERS: usize = 3;

/// Names, on every node.
pub fn desired(facts: Facts<'_>) -> Desired {
    let mut desired = Desired::default();
    desired.files.insert(HOSTNAME.into(), File::new(hostname(facts)));
    desired.files.insert(HOSTS.into(), File::new(hosts(facts)));
    desired.files.insert(RESOLVER.into(), File::new(resolver(facts)));
    desired.units.insert(UNIT, UnitWish::default().reloads_on(HOSTNAME));
    desired
}

/// `/etc/hostname`: the node's short name.
fn hostname(facts: Facts<'_>) -> String {
    format!("{}\n", facts.node.name)
}

/// `/etc/hosts`: every node by its addresses on the cluster network, so that no quorum needs a DNS server.
fn hosts(facts: Facts<'_>) -> String {
    let mut text =
        format!("{HEADER}127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    for node in facts.config.nodes.values() {
        let network = node.network(NetworkName::Cluster);
        let addresses: Vec<IpAddr> =
            network.iter().flat_map(|net| &net.addresses).map(|a| a.address.addr()).collect();
        for address in addresses {
            let _ = writeln!(text, "{address} {} {}", facts.full_name(node), node.name);
        }
    }
    text
}

/// `/etc/resolv.conf`: the servers of the cluster file, or none, so that a look-up fails at once.
fn resolver(facts: Facts<'_>) -> String {
    let mut text = format!("{HEADER}search {}\n", facts.config.domain);
    for server in facts.config.dns_servers.iter().take(MOST_SERVERS) {
        let _ = writeln!(text, "nameserver {server}");
    }
    text.push_str("options timeout:2 attempts:2\n");
    text
}
