//! The node's routing sessions: with the other nodes of the cluster and with the routers upstream.
//!
//! FRR makes and keeps them, and the subject `services` keeps FRR and its configuration. Here they are only looked at:
//! each is established, or there is a reason why it is not.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::status::{Details, Problem};
use crate::subject::{Plan, Subject};

pub mod answer; // what FRR's daemons say
#[cfg(test)]
mod tests;

/// The node's routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frr;

/// Which sessions there should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Whether the node hands routes on from one node to another, as coordinators do.
    pub reflects: bool,
    /// The other end of each session, by address.
    pub neighbors: BTreeMap<IpAddr, Neighbor>,
}

/// The other end of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbor {
    /// What people call it: a node's name, or the address of a router upstream.
    pub name: String,
    /// Whether BFD watches it.
    pub bfd: bool,
}

/// What the daemons say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observed {
    /// Nothing, with the reason.
    Away(String),
    /// Every session that they know, by the address of the other end.
    Sessions(BTreeMap<IpAddr, Session>),
}

/// One session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    /// The state of BGP (RFC 4271, 8.2.2): `Established`, `Idle`, `Active`, …
    pub state: String,
    /// Since when it has been established, in seconds since 1970-01-01 UTC.
    pub since: Option<u64>,
    /// Why it is not, or why it was lost last.
    pub reason: Option<String>,
    /// The state of BFD (RFC 5880, 4.1): `up`, `down`, …
    pub bfd: Option<String>,
}

impl Subject for Frr {
    const NAME: &'static str = "frr";
    type Desired = Desired;
    type Observed = Observed;
    /// There is nothing to do by hand.
    type Step = Infallible;

    fn plan(desired: &Desired, observed: &Observed) -> Plan<Infallible> {
        let problems = match observed {
            Observed::Away(_) if desired.neighbors.is_empty() => Vec::new(),
            Observed::Away(reason) => {
                vec![Problem { object: "frr.service".into(), reason: reason.clone() }]
            }
            Observed::Sessions(sessions) => {
                let problem = |(address, neighbor): (&IpAddr, &Neighbor)| {
                    let reason = trouble(neighbor, sessions.get(address))?;
                    let object = format!("session with {}", neighbor.name);
                    Some(Problem { object, reason })
                };
                desired.neighbors.iter().filter_map(problem).collect()
            }
        };
        Plan { steps: Vec::new(), problems }
    }

    fn details(desired: &Desired, observed: &Observed) -> Details {
        let mut details = Details::default();
        let Observed::Sessions(sessions) = observed else { return details };
        let role = if desired.reflects { "route reflector" } else { "client" };
        details.role = Some(role.into());
        for (address, neighbor) in &desired.neighbors {
            details.members.insert(neighbor.name.clone(), word(sessions.get(address)));
        }
        details
    }
}

/// The state of BGP in which routes are exchanged.
const ESTABLISHED: &str = "Established";

/// Why a session is not as it should be.
fn trouble(neighbor: &Neighbor, session: Option<&Session>) -> Option<String> {
    let Some(session) = session else { return Some("FRR does not know it".into()) };
    if session.state != ESTABLISHED {
        let reason = session.reason.as_deref().map(|reason| format!(": {reason}"));
        return Some(format!(
            "is not established ({}){}",
            session.state,
            reason.unwrap_or_default()
        ));
    }
    match (neighbor.bfd, session.bfd.as_deref()) {
        (false, _) | (true, Some("up")) => None,
        (true, None) => Some("is established, and BFD does not watch it".into()),
        (true, Some(state)) => Some(format!("is established, and BFD is {state}")),
    }
}

/// A few words for a list.
fn word(session: Option<&Session>) -> String {
    match session {
        None => "unknown".into(),
        Some(Session { state, since: Some(since), .. }) if state == ESTABLISHED => {
            let since = UNIX_EPOCH + Duration::from_secs(*since);
            format!("established since {}", humantime::format_rfc3339_seconds(since))
        }
        Some(session) => session.state.to_lowercase(),
    }
}
