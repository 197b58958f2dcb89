//! FRR: the AS, the routers upstream, BFD.

use std::collections::HashMap;
use std::net::IpAddr;

use super::networks::{Core, unusable};
use super::{Check, Told, given_or, items};
use crate::config::given::Given;
use crate::config::problem::error;
use crate::config::raw::{RawBfd, RawFile, RawFrr, RawFrrPeer};
use crate::config::spots::Spot;
use crate::config::{Bfd, Frr, FrrPeer, NetworkName};
use crate::names::{Asn, Period};

/// FRR, if there is such a section.
pub(super) fn frr(check: Check<'_>, file: &RawFile, cores: &[Core]) -> Result<Option<Frr>, Told> {
    let (raw, spot) = match &file.frr {
        Given::Absent => return Ok(None),
        Given::Wrong => return Err(Told),
        Given::Is(raw, spot) => (raw, *spot),
    };
    let RawFrr { asn, peers, bfd } = raw;
    let asn = check.need(asn, spot, "asn", "write `asn: 65500`: the cluster's own AS number");
    let upstream = cores.iter().find(|core| {
        core.name == NetworkName::Upstream
            || core.shared_by.iter().any(|(name, _)| *name == NetworkName::Upstream)
    });
    let mut seen = HashMap::new();
    let mut valid = Vec::new();
    for (peer, spot) in items(peers) {
        check_peer(check, peer, upstream, &mut seen);
        valid.push(frr_peer(check, peer, spot, asn));
    }
    let bfd = check_bfd(check, bfd.get().cloned().unwrap_or_default());
    let peers = valid.into_iter().collect::<Option<_>>().ok_or(Told)?;
    Ok(Some(Frr { asn: asn.ok_or(Told)?, peers, bfd }))
}

fn frr_peer(check: Check<'_>, peer: &RawFrrPeer, spot: Spot, own: Option<Asn>) -> Option<FrrPeer> {
    let RawFrrPeer { address, asn, secret, bfd, multihop } = peer;
    let address =
        check.need(address, spot, "address", "write `address: 10.0.0.1`: the router's")?;
    Some(FrrPeer {
        address: address.0,
        asn: asn.get().copied().or(own)?,
        secret: secret.get().cloned(),
        bfd: given_or(bfd, true),
        multihop: given_or(multihop, false),
    })
}

fn check_peer(
    check: Check<'_>,
    peer: &RawFrrPeer,
    upstream: Option<&Core>,
    seen: &mut HashMap<IpAddr, Spot>,
) {
    let Some((address, spot)) = peer.address.at() else { return };
    let address = address.0;
    if let Some(first) = seen.insert(address, spot) {
        let reason =
            format!("peer {address} is listed twice, first in line {}", check.spots.line(first));
        check.tell(error(spot, reason).help("remove one of the two"));
    }
    if let Some(what) = unusable(address) {
        let reason = format!("{address} is {what}, and not a router's address");
        check.tell(error(spot, reason).help("write the router's global or private address"));
        return;
    }
    let Some(core) = upstream.filter(|core| !core.subnets.is_empty()) else { return };
    let inside = core.subnets.iter().any(|subnet| subnet.net.contains(&address));
    if !inside && !given_or(&peer.multihop, false) {
        let reason = format!("peer {address} is outside of the upstream subnets");
        let help = "write an address inside, or `multihop: true` if the router is further away";
        check.tell(error(spot, reason).help(help));
    }
}

/// FRR's own bounds (bfdd(8)): a multiplier of 2 to 255, intervals of 10 ms to 60 s.
fn check_bfd(check: Check<'_>, raw: RawBfd) -> Bfd {
    let RawBfd { multiplier, receive, transmit } = raw;
    if let Some((number, spot)) = multiplier.at()
        && *number < 2
    {
        let reason = "one lost packet must not end a session";
        check.tell(error(spot, reason).help("write 2 or more; 3 is usual"));
    }
    for interval in [&receive, &transmit] {
        let Some((interval, spot)) = interval.at() else { continue };
        if *interval < Period::millis(10) || *interval > Period::seconds(60) {
            let reason = "BFD intervals are 10ms to 60s";
            check.tell(error(spot, reason).help("300ms is usual"));
        }
    }
    Bfd {
        multiplier: given_or(&multiplier, Bfd::DEFAULT.multiplier),
        receive: given_or(&receive, Bfd::DEFAULT.receive),
        transmit: given_or(&transmit, Bfd::DEFAULT.transmit),
    }
}
