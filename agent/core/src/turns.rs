//! Turns: which coordinator may restart its part of a service next, so that one after the other does.
//!
//! Nobody leads here, and what one agent hears of another may be old by a moment, so that "the lowest that waits" is
//! not enough: two could each see themselves alone. Each coordinator therefore has one **vote**, and only who has
//! the votes of all of them, its own included, has the turn.
//!
//! A vote is for one ticket. A node takes a new ticket whenever its own vote comes to itself or leaves itself, so that a
//! ticket lives as long as its node votes for itself, and never again. Another's vote for it stays where it is until
//! the ticket is seen to be dead. Hence two never have the turn at once: each would need the other's vote for its own
//! living ticket, while the other votes for itself.
//!
//! All vote for the same one as soon as they have heard the same: first who does not work (its restart costs
//! nothing), then the lowest node ID, the leader last. Who waits with its vote on itself gives way to one that comes
//! before it.
//!
//! Votes and requests lie in memory files of the node (`/run`), so that an agent that is restarted still knows them;
//! one that boots has restarted everything anyway.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{NodeId, NodeName};
use crate::quorum::{LEADER, Others, Witness};
use crate::status::Problem;
use crate::subject::Plan;

#[cfg(test)]
mod tests;

/// Where a node keeps its requests and votes, a file for each service.
pub const FOLDER: &str = "/run/trilith/turns";

/// The permission to restart a service because of a changed file: what its units ask for.
pub fn permit(service: &str) -> String {
    format!("/run/trilith/permits/{service}-restart")
}

/// The number of one request, never used twice by one node.
pub type Ticket = u64;

/// Where a coordinator stands with its turn for one service: what the others are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stand {
    /// Its request, from when it must restart until it has restarted and works again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<Ticket>,
    /// Whom it lets go first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vote: Option<Vote>,
    /// Whether it has its permission to restart.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub holds: bool,
}

/// A vote for one request of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Whose request it is.
    pub node: NodeId,
    /// Which of its requests.
    pub ticket: Ticket,
}

/// What a node shows of its own part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seen {
    /// Where it stands.
    pub stand: Stand,
    /// Whether it must restart, because it runs with an older configuration than it has.
    pub due: bool,
    /// A ticket that it has not used yet.
    pub fresh: Ticket,
}

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Keep this request and this vote, for the others to see.
    Say {
        /// The request.
        asks: Option<Ticket>,
        /// The vote.
        vote: Option<Vote>,
    },
    /// Write the permission to restart.
    Permit,
    /// Take it back.
    Revoke,
}

/// The coordinators of one service, as one of them sees them.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// All of them.
    pub members: &'a BTreeMap<NodeId, NodeName>,
    /// This one.
    pub me: NodeId,
    /// What this one is in the service; `None`: it does not work. `leader` is the word for who leads.
    pub role: Option<&'a str>,
    /// The others.
    pub others: &'a Others,
}

/// What leads towards the turn, or back from it, and what this node waits for.
pub fn plan(table: Table<'_>, seen: &Seen) -> Plan<Step> {
    let mut plan = Plan::default();
    let own = seen.stand;
    if seen.due && table.all_is_lost() {
        // No request: it is no turn that others would have to wait for.
        let quiet = own.asks.is_none() && own.vote.is_none();
        plan.steps.extend((!quiet).then_some(Step::Say { asks: None, vote: None }));
        plan.steps.extend((!own.holds).then_some(Step::Permit));
        return plan;
    }
    let next = table.next(seen);
    let revoke = own.holds && !next.holds;
    plan.steps.extend(revoke.then_some(Step::Revoke));
    if (next.asks, next.vote) != (own.asks, own.vote) {
        plan.steps.push(Step::Say { asks: next.asks, vote: next.vote });
    } else if seen.due && !own.holds {
        let missing = table.missing(own);
        plan.steps.extend(missing.is_empty().then_some(Step::Permit));
        plan.problems = missing;
    }
    plan
}

impl Table<'_> {
    /// Nobody works, as far as this node knows, and nobody restarts in its turn: then there is nothing to be lost by
    /// restarting, and waiting for others to be well would be for ever. One that was not asked yet is not known.
    fn all_is_lost(&self) -> bool {
        let lost = |witness: &Witness| match witness {
            Witness::Silent(_) => true,
            Witness::Says(details) => {
                let restarts = details.turn.is_some_and(|turn| turn.holds && turn.asks.is_some());
                details.role.is_none() && !restarts
            }
        };
        let mut others = self.members.keys().filter(|id| **id != self.me);
        self.role.is_none() && others.all(|id| self.others.get(id).is_some_and(lost))
    }

    /// Where this node should stand, given what it sees.
    fn next(&self, seen: &Seen) -> Stand {
        let mut next = seen.stand;
        match next.asks {
            None if seen.due => next.asks = Some(seen.fresh),
            // It is over when the new process works: until then nobody else may go.
            Some(_) if !seen.due && self.role.is_some() => (next.asks, next.holds) = (None, false),
            // A permission without a request was given when all was lost.
            None => next.holds = false,
            Some(_) => {}
        }
        next.vote = next.vote.filter(|vote| !self.is_dead(*vote, next.asks));
        match (next.vote, self.first(next.asks)) {
            (None, Some(first)) if first.node == self.me => next = self.stand_for(seen.fresh, next),
            (None, first) => next.vote = first,
            (Some(vote), Some(first))
                if vote.node == self.me && first.node != self.me && !next.holds =>
            {
                next.asks = Some(seen.fresh);
                next.vote = Some(first);
            }
            (Some(_), _) => {}
        }
        next
    }

    /// Votes for itself.
    fn stand_for(&self, ticket: Ticket, next: Stand) -> Stand {
        Stand { asks: Some(ticket), vote: Some(Vote { node: self.me, ticket }), ..next }
    }

    /// Whether the ticket that a vote is for is known to be dead. Of a node that is silent, or has not looked yet,
    /// nothing is known.
    fn is_dead(&self, vote: Vote, own: Option<Ticket>) -> bool {
        if vote.node == self.me {
            return own != Some(vote.ticket);
        }
        match self.others.get(&vote.node) {
            Some(Witness::Says(details)) => details
                .turn
                .is_some_and(|turn| (turn.asks, turn.vote) != (Some(vote.ticket), Some(vote))),
            Some(Witness::Silent(_)) => false,
            // No coordinator any more.
            None => !self.members.contains_key(&vote.node),
        }
    }

    /// The request that comes first of all.
    fn first(&self, own: Option<Ticket>) -> Option<Vote> {
        let ask = |node: NodeId, ticket: Ticket, role: Option<&str>| {
            ((role.is_some(), role == Some(LEADER), node), Vote { node, ticket })
        };
        let mine = own.map(|ticket| ask(self.me, ticket, self.role));
        let others = self.others.iter().filter_map(|(id, witness)| match witness {
            Witness::Says(details) => Some(ask(*id, details.turn?.asks?, details.role.as_deref())),
            Witness::Silent(_) => None,
        });
        others.chain(mine).min_by_key(|(order, _)| *order).map(|(_, vote)| vote)
    }

    /// What is missing before this node may restart.
    fn missing(&self, own: Stand) -> Vec<Problem> {
        let waits = |reason: String| vec![Problem { object: "turn".into(), reason }];
        match own.vote {
            Some(vote) if vote.node != self.me => {
                let restarts = match self.others.get(&vote.node) {
                    Some(Witness::Says(details)) => details.turn.is_some_and(|turn| turn.holds),
                    Some(Witness::Silent(_)) | None => false,
                };
                let name = self.name(vote.node);
                let what = if restarts { "restarts now" } else { "comes first" };
                waits(format!("waits to restart: {name} {what}"))
            }
            _ => {
                let others = self.members.keys().filter(|id| **id != self.me);
                let missing: Vec<_> = others.filter_map(|id| self.lacks(*id, own)).collect();
                if missing.is_empty() {
                    return Vec::new();
                }
                waits(format!("waits to restart: {}", missing.join(", ")))
            }
        }
    }

    /// Why this node may not restart as far as another one is concerned.
    fn lacks(&self, other: NodeId, own: Stand) -> Option<String> {
        let name = self.name(other);
        let details = match self.others.get(&other) {
            Some(Witness::Says(details)) => details,
            Some(Witness::Silent(reason)) => {
                return Some(format!("{name} does not answer: {reason}"));
            }
            None => return Some(format!("{name} was not asked yet")),
        };
        let wanted = own.asks.map(|ticket| Vote { node: self.me, ticket });
        if details.turn.and_then(|turn| turn.vote) != wanted {
            return Some(format!("{name} has not agreed yet"));
        }
        // Who does not work takes nothing away by restarting.
        (self.role.is_some() && details.role.is_none()).then(|| format!("{name} does not work"))
    }

    fn name(&self, node: NodeId) -> String {
        self.members.get(&node).map_or_else(|| format!("node {node}"), NodeName::to_string)
    }
}

impl Stand {
    /// For people; `None`: nobody asks for anything.
    pub fn word(self) -> Option<String> {
        match (self.asks, self.holds, self.vote) {
            (_, true, _) => Some("restarts".into()),
            (Some(_), false, _) => Some("waits to restart".into()),
            (None, false, Some(vote)) => Some(format!("lets node {} restart", vote.node)),
            (None, false, None) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // With the ticket: another ticket is another step, and need not wait because this one was tried.
            Self::Say { asks: Some(asks), vote: Some(vote) } => {
                let Vote { node, ticket } = vote;
                write!(
                    f,
                    "ask to restart (ticket {asks}); node {node} comes first (ticket {ticket})"
                )
            }
            Self::Say { asks: Some(asks), vote: None } => {
                write!(f, "ask to restart (ticket {asks})")
            }
            Self::Say { asks: None, vote: Some(Vote { node, ticket }) } => {
                write!(f, "agree that node {node} restarts (ticket {ticket})")
            }
            Self::Say { asks: None, vote: None } => f.write_str("ask no more to restart"),
            Self::Permit => f.write_str("permit the restart"),
            Self::Revoke => f.write_str("take back the permission to restart"),
        }
    }
}
