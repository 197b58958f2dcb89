//! FRR: BGP inside the cluster and with the routers upstream.
//!
//! The coordinators are route reflectors and every node is a client of each, coordinators among themselves too, so
//! that routes still reach everybody when two coordinators cannot see each other. Sessions run over the cluster
//! network, with a password and watched by BFD. They carry IPv4, IPv6 and EVPN; guest networks come in there.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Facts, HEADER, address, before_others};
use crate::config::{Bfd, Frr, FrrPeer, NetworkName, Node};
use crate::frr;
use crate::names::{Asn, NodeId};
use crate::services::{Checker, Desired, File, Owner, UnitName, UnitWish};

/// The unit, on every node.
pub const UNIT: UnitName = UnitName::fixed("frr.service");

/// The configuration of all daemons, passwords in it.
pub const CONFIG: &str = "/etc/frr/frr.conf";
/// Which daemons run.
pub const DAEMONS: &str = "/etc/frr/daemons";

/// The AS of a cluster whose file has no `frr` section: nobody but its own nodes ever sees it. It is the last of the
/// private ones (RFC 6996), where a chosen one hardly lies.
const OWN_ASN: u32 = 4_294_967_294;

/// FRR on every node.
pub fn desired(facts: Facts<'_>) -> Desired {
    let mut desired = Desired::default();
    let own = |text| File::new(text).mode(0o640).owned_by(Owner::new("frr", "frr"));
    desired.files.insert(CONFIG.into(), own(config(facts)).checked_by(Checker::Vtysh));
    desired.files.insert(DAEMONS.into(), own(daemons()));
    let wish = UnitWish::default().reloads_on(CONFIG).restarts_on(DAEMONS);
    desired.units.insert(UNIT, wish.limited(before_others()));
    desired
}

/// `/etc/frr/daemons`: BGP and BFD, each only to be asked from this node.
fn daemons() -> String {
    format!(
        "{HEADER}\
bgpd=yes
bfdd=yes
vtysh_enable=yes
frr_profile=\"datacenter\"
zebra_options=\"-A 127.0.0.1 -s 90000000\"
mgmtd_options=\"-A 127.0.0.1\"
staticd_options=\"-A 127.0.0.1\"
bgpd_options=\"-A 127.0.0.1\"
bfdd_options=\"-A 127.0.0.1\"
"
    )
}

/// `frr.conf`.
fn config(facts: Facts<'_>) -> String {
    let frr = facts.config.settings.frr.as_ref();
    let asn = frr.map_or(OWN_ASN, |frr| u32::from(frr.asn));
    let peers = upstream(facts, frr);
    let (router_id, _) = facts.node.router_id();
    let mut text = format!(
        "!\n! Written by trilithd from the cluster file; changes here are undone.\n!\n\
frr defaults datacenter
hostname {name}
log syslog informational
service integrated-vtysh-config
!
{policy}{bfd}\
router bgp {asn}
 bgp router-id {router_id}
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 bgp bestpath as-path multipath-relax
 neighbor cluster peer-group
 neighbor cluster remote-as internal
 neighbor cluster password {password}
 neighbor cluster bfd profile cluster
",
        name = facts.node.name,
        policy = if peers.is_empty() { "" } else { POLICY },
        bfd = bfd(frr.map_or(Bfd::DEFAULT, |frr| frr.bfd)),
        password = facts.secrets.bgp.reveal(),
    );
    let inner: Vec<(&Node, IpAddr)> = neighbors(facts).collect();
    let own = facts.own(NetworkName::Cluster);
    // No `update-source`: with it FRR 10.3 takes some of these sessions for several hops away, for BFD alone and by
    // chance on one side only (its issue 19077), and no session comes up. The kernel chooses the same address.
    for (node, address) in &inner {
        let _ = writeln!(text, " neighbor {address} peer-group cluster");
        let _ = writeln!(text, " neighbor {address} description {}", node.name);
    }
    for peer in peers {
        text.push_str(&neighbor(facts, peer));
    }
    text.push_str(&families(facts, peers, own));
    text.push_str("exit\n!\n");
    text
}

/// The sessions that the configuration makes, as they are looked after.
pub(crate) fn sessions(facts: Facts<'_>) -> frr::Desired {
    let nodes = neighbors(facts)
        .map(|(node, address)| (address, frr::Neighbor { name: node.name.to_string(), bfd: true }));
    let routers = upstream(facts, facts.config.settings.frr.as_ref()).iter().map(|peer| {
        (peer.address, frr::Neighbor { name: peer.address.to_string(), bfd: peer.bfd })
    });
    frr::Desired { reflects: facts.coordinates(), neighbors: nodes.chain(routers).collect() }
}

/// Only coordinators speak with the routers upstream: two ways out suffice, and other nodes learn theirs from them.
fn upstream<'a>(facts: Facts<'_>, frr: Option<&'a Frr>) -> &'a [FrrPeer] {
    frr.filter(|_| facts.coordinates()).map_or(&[], |frr| &frr.peers)
}

/// A coordinator has a session with every other node, other nodes with every coordinator.
pub(super) fn neighbors(facts: Facts<'_>) -> impl Iterator<Item = (&Node, IpAddr)> {
    let v6 = facts.own(NetworkName::Cluster).is_ipv6();
    let own: NodeId = facts.node.id;
    let wanted =
        move |node: &&Node| facts.coordinates() || facts.config.coordinators.contains(&node.id);
    let others = facts.config.nodes.values().filter(move |node| node.id != own);
    others
        .filter(wanted)
        .filter_map(|node| Some((node, address(node, NetworkName::Cluster)?)))
        .filter(move |(_, address)| address.is_ipv6() == v6)
}

fn bfd(bfd: Bfd) -> String {
    let Bfd { multiplier, receive, transmit } = bfd;
    format!(
        "bfd
 profile cluster
  detect-multiplier {multiplier}
  receive-interval {}
  transmit-interval {}
 exit
 !
exit
!
",
        receive.as_duration().as_millis(),
        transmit.as_duration().as_millis()
    )
}

/// A router upstream.
fn neighbor(facts: Facts<'_>, peer: &FrrPeer) -> String {
    let FrrPeer { address, asn, secret, bfd, multihop } = peer;
    let mut text = format!(" neighbor {address} remote-as {asn}\n");
    if *multihop && external(facts, *asn) {
        let _ = writeln!(text, " neighbor {address} ebgp-multihop");
    }
    if let Some(password) = secret.as_ref().and_then(|name| facts.secrets.named.get(name)) {
        let _ = writeln!(text, " neighbor {address} password {}", password.reveal());
    }
    if *bfd {
        let _ = writeln!(text, " neighbor {address} bfd profile cluster");
    }
    text
}

fn external(facts: Facts<'_>, asn: Asn) -> bool {
    facts.config.settings.frr.as_ref().is_some_and(|frr| frr.asn != asn)
}

/// Which kinds of routes go over which session.
fn families(facts: Facts<'_>, peers: &[FrrPeer], own: IpAddr) -> String {
    let mut text = String::new();
    let reflects = facts.coordinates();
    for family in ["ipv4 unicast", "ipv6 unicast"] {
        let _ = writeln!(text, " !\n address-family {family}");
        activate(&mut text, reflects);
        for peer in peers.iter().filter(|peer| peer.address.is_ipv6() == (family == "ipv6 unicast"))
        {
            let address = peer.address;
            let _ = writeln!(text, "  neighbor {address} activate");
            // Nobody may go through the cluster from one router to another.
            let _ = writeln!(text, "  neighbor {address} route-map upstream-out out");
            let _ = writeln!(text, "  neighbor {address} soft-reconfiguration inbound");
        }
        text.push_str(" exit-address-family\n");
    }
    text.push_str(" !\n address-family l2vpn evpn\n");
    activate(&mut text, reflects);
    text.push_str("  advertise-all-vni\n exit-address-family\n");
    // IPv4 routes over a cluster network that has IPv6 alone (RFC 8950).
    if own.is_ipv6() {
        text.insert_str(0, " neighbor cluster capability extended-nexthop\n");
    }
    text
}

fn activate(text: &mut String, reflects: bool) {
    text.push_str("  neighbor cluster activate\n");
    if reflects {
        text.push_str("  neighbor cluster route-reflector-client\n");
    }
}

/// What the routers upstream are told: routes that begin in the cluster.
const POLICY: &str = "\
bgp as-path access-list own seq 5 permit ^$
!
route-map upstream-out permit 10
 match as-path own
exit
!
";
