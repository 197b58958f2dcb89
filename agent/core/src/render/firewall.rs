//! nftables: what may come in. Everything else is dropped.
//!
//! One table of ours, replaced as a whole by one transaction; tables of others are not touched. Each core network
//! opens what the node's role needs there, to its own subnet; collapsed networks open what either needs. Packets that
//! claim an address of a core subnet must come in where that subnet lies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Facts, HEADER, frr, ports};
use crate::config::{Network, NetworkName};
use crate::operators;
use crate::services::{Checker, Desired, File, UnitName, UnitWish};

/// The unit, on every node. The image starts it early, with rules that let nothing in.
pub const UNIT: UnitName = UnitName::fixed("nftables.service");

/// The rules.
pub const CONFIG: &str = "/etc/nftables.conf";

/// The transport of an opened port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Ports as nftables writes them, in order: `22` or `6800-7568`.
type Open = BTreeMap<Transport, BTreeSet<(u16, u16)>>;

/// The firewall, on every node.
pub fn desired(facts: Facts<'_>) -> Desired {
    let mut desired = Desired::default();
    let rules = File::new(config(facts)).checked_by(Checker::Nft);
    desired.files.insert(CONFIG.into(), rules);
    desired.units.insert(UNIT, UnitWish::default().reloads_on(CONFIG));
    desired
}

/// `nftables.conf`.
fn config(facts: Facts<'_>) -> String {
    let mut input = String::new();
    for network in &facts.config.networks.distinct {
        let open = open_on(facts, network);
        for subnet in &network.subnets {
            input.push_str(&from_subnet(subnet.net, &open));
        }
    }
    input.push_str(&peers_inside(facts));
    input.push_str(&peers_upstream(facts));
    input.push_str(&operators(facts));
    format!(
        "#!/usr/sbin/nft -f
{HEADER}
destroy table inet trilith

table inet trilith {{
	chain input {{
		type filter hook input priority filter; policy drop;

		ct state vmap {{ established : accept, related : accept, invalid : drop }}
		iif lo accept
{spoofed}{ICMP}
{input}	}}

	# A node does not route between core networks; machines on bridges are not routed at all.
	chain forward {{
		type filter hook forward priority filter; policy drop;

		ct state established,related accept
	}}
}}
",
        spoofed = spoofed(facts),
    )
}

/// What every host must hear to work: errors, pings, neighbours, path MTUs (RFC 4890). Multicast listener reports
/// and router solicitations are harmless and for others.
const ICMP: &str = "
		icmp type { echo-request, destination-unreachable, time-exceeded, parameter-problem } accept
		icmpv6 type { echo-request, destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query } ip6 hoplimit { 1, 255 } accept
";

/// Addresses of core subnets that come in from elsewhere are made up.
fn spoofed(facts: Facts<'_>) -> String {
    let subnets: Vec<IpNet> = facts
        .config
        .networks
        .distinct
        .iter()
        .flat_map(|network| &network.subnets)
        .map(|subnet| subnet.net)
        .collect();
    let mut text = String::new();
    for v6 in [false, true] {
        let set: Vec<String> = subnets
            .iter()
            .filter(|net| net.addr().is_ipv6() == v6)
            .map(ToString::to_string)
            .collect();
        if !set.is_empty() {
            let (family, set) = (family(v6), set.join(", "));
            let _ = writeln!(text, "\t\t{family} saddr {{ {set} }} fib saddr . iif oif 0 drop");
        }
    }
    text
}

fn family(v6: bool) -> &'static str {
    if v6 { "ip6" } else { "ip" }
}

/// What a network opens to its own subnet, for all the networks that it carries.
fn open_on(facts: Facts<'_>, network: &Network) -> Open {
    let mut open = Open::new();
    let mut add = |transport, low, high| {
        open.entry(transport).or_default().insert((low, high));
    };
    if network.carries(NetworkName::Cluster) {
        for port in cluster_tcp(facts) {
            add(Transport::Tcp, port, port);
        }
        add(Transport::Tcp, ports::MIGRATION.0, ports::MIGRATION.1);
        if facts.coordinates() {
            add(Transport::Udp, ports::NTP, ports::NTP);
        }
    }
    let ceph = &facts.config.settings.ceph;
    if network.carries(ceph.public_network) && facts.coordinates() {
        add(Transport::Tcp, ports::CEPH_MONITOR, ports::CEPH_MONITOR);
    }
    let carries_ceph =
        network.carries(ceph.public_network) || network.carries(ceph.cluster_network);
    if carries_ceph && (facts.coordinates() || !facts.node.osds.is_empty()) {
        add(Transport::Tcp, ports::CEPH.0, ports::CEPH.1);
    }
    let metrics = &facts.config.settings.metrics;
    if metrics.network.is_some_and(|name| network.carries(name)) {
        add(Transport::Tcp, metrics.port, metrics.port);
    }
    open
}

/// The single TCP ports of the cluster network.
fn cluster_tcp(facts: Facts<'_>) -> Vec<u16> {
    let mut open = vec![ports::PEERS, ports::LIBVIRT];
    if facts.coordinates() {
        open.extend([ports::ZOOKEEPER, ports::ZOOKEEPER_QUORUM, ports::ZOOKEEPER_ELECTION]);
        open.extend([facts.config.settings.postgres.port, ports::PATRONI]);
    }
    open
}

fn from_subnet(subnet: IpNet, open: &Open) -> String {
    let family = family(subnet.addr().is_ipv6());
    let rule = |(transport, ports): (&Transport, &BTreeSet<(u16, u16)>)| {
        let ports: Vec<String> = ports.iter().map(|range| written(*range)).collect();
        let (transport, ports) = (transport.name(), ports.join(", "));
        format!(
            "\t\t{family} saddr {subnet} {family} daddr {subnet} {transport} dport {{ {ports} }} accept\n"
        )
    };
    open.iter().map(rule).collect()
}

fn written((low, high): (u16, u16)) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

/// The nodes with which this one has routing sessions, by their own addresses: TCP's MD5 alone is no door.
fn peers_inside(facts: Facts<'_>) -> String {
    let nodes: BTreeSet<IpAddr> = frr::neighbors(facts).map(|(_, address)| address).collect();
    // All are of one family, see there.
    let Some(first) = nodes.first() else { return String::new() };
    let list: Vec<String> = nodes.iter().map(IpAddr::to_string).collect();
    routing(&format!("{} saddr {{ {} }}", family(first.is_ipv6()), list.join(", ")), true)
}

/// The routers that the cluster file names, and nobody else. Only coordinators speak with them.
fn peers_upstream(facts: Facts<'_>) -> String {
    let frr = facts.config.settings.frr.as_ref().filter(|_| facts.coordinates());
    let peers = frr.into_iter().flat_map(|frr| &frr.peers);
    let rules = peers.map(|peer| {
        let from = format!("{} saddr {}", family(peer.address.is_ipv6()), peer.address);
        routing(&from, peer.bfd)
    });
    rules.collect()
}

/// BGP from there, and BFD if it watches.
fn routing(from: &str, bfd: bool) -> String {
    let mut text = format!("\t\t{from} tcp dport {} accept\n", ports::BGP);
    if bfd {
        let ports = ports::BFD.map(|port| port.to_string()).join(", ");
        let _ = writeln!(text, "\t\t{from} udp dport {{ {ports} }} accept");
    }
    text
}

/// Operators come from anywhere, also from beyond the gateway; the door is the certificate, or the SSH key. They come to
/// the node's addresses on upstream: to its agent by its own, to SSH also by the floating ones.
fn operators(facts: Facts<'_>) -> String {
    let own: BTreeSet<IpAddr> = operators::addresses(facts.node).into_iter().collect();
    let mut text = to(&own, ports::OPERATORS);
    if !facts.config.ssh_keys.is_empty() {
        let network = facts.config.networks.get(NetworkName::Upstream);
        let subnets = network.into_iter().flat_map(|net| &net.subnets);
        let floating = subnets.filter_map(|subnet| subnet.floating);
        text.push_str(&to(&own.iter().copied().chain(floating).collect(), ports::SSH));
    }
    text
}

fn to(addresses: &BTreeSet<IpAddr>, port: u16) -> String {
    let rule = |address: &IpAddr| {
        format!("\t\t{} daddr {address} tcp dport {port} accept\n", family(address.is_ipv6()))
    };
    addresses.iter().map(rule).collect()
}
