//! What FRR's daemons answer in JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::{ESTABLISHED, Observed, Session};

/// What vtysh is asked in one go: the answers come one after the other.
pub const QUESTIONS: [&str; 3] =
    ["show bgp summary json", "show bgp summary failed json", "show bfd peers json"];

/// One kind of routes.
#[derive(Deserialize)]
struct Family {
    #[serde(default)]
    peers: BTreeMap<String, Peer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    state: Option<String>,
    #[serde(rename = "peerUptimeEstablishedEpoch")]
    since: Option<u64>,
    last_reset_due_to: Option<String>,
}

#[derive(Deserialize)]
struct Bfd {
    peer: String,
    status: Option<String>,
    diagnostic: Option<String>,
}

/// Reads the answers to [`QUESTIONS`]. A daemon that does not run says so in words.
pub fn parse(text: &str) -> Observed {
    let mut values = serde_json::Deserializer::from_str(text);
    if let Ok(sessions) = read(&mut values) {
        return Observed::Sessions(sessions);
    }
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let words = line.filter(|line| !line.starts_with(['{', '[']));
    Observed::Away(words.unwrap_or("its answer is not understood").to_owned())
}

type Answers<'a> = serde_json::Deserializer<serde_json::de::StrRead<'a>>;

fn read(values: &mut Answers<'_>) -> serde_json::Result<BTreeMap<IpAddr, Session>> {
    let mut sessions: BTreeMap<IpAddr, Session> = BTreeMap::new();
    for (address, peer) in peers(values)? {
        let session = sessions.entry(address).or_default();
        // One session carries several kinds of routes, and is established for all of them or none.
        session.since = peer.since.or(session.since);
        session.state = peer.state.unwrap_or_default();
    }
    for (address, peer) in peers(values)? {
        let session = sessions.entry(address).or_default();
        session.reason = peer.last_reset_due_to.filter(|_| session.state != ESTABLISHED);
    }
    for bfd in Vec::<Bfd>::deserialize(values)? {
        let Some(session) = bfd.peer.parse().ok().and_then(|it: IpAddr| sessions.get_mut(&it))
        else {
            continue;
        };
        let why = bfd.diagnostic.filter(|why| why != "ok").map(|why| format!(" ({why})"));
        session.bfd = bfd.status.map(|status| match status.as_str() {
            "up" => status,
            _ => status + &why.unwrap_or_default(),
        });
    }
    Ok(sessions)
}

fn peers(values: &mut Answers<'_>) -> serde_json::Result<Vec<(IpAddr, Peer)>> {
    let families = BTreeMap::<String, Family>::deserialize(values)?;
    let peers = families.into_values().flat_map(|family| family.peers);
    Ok(peers.filter_map(|(address, peer)| Some((address.parse().ok()?, peer))).collect())
}
