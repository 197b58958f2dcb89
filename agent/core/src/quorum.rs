//! Form or join: what a coordinator with an empty data directory may do, for any service that keeps a quorum.
//!
//! A quorum is founded only if *every* coordinator says that it holds nothing; one that is silent may hold the
//! data. It is joined only if a majority holds the data: a minority may lack what the lost ones had committed.
//! In between nothing forms, and the reasons say what is missing.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{NodeId, NodeName};
use crate::status::{Details, Problem};

#[cfg(test)]
mod tests;

/// What a node's data directory of one service holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// Nothing that anybody could miss.
    Empty,
    /// Prepared to found; it has never been part of a quorum, so nobody could miss it either.
    Founding,
    /// The service's data.
    Present {
        /// The cluster that it belongs to (its fsid).
        cluster: String,
    },
    /// The data of another cluster or another node, or something unknown: never touched, never started.
    Foreign {
        /// Why it is thought to be that.
        reason: String,
    },
}

/// What a coordinator is known to say about its part of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// Its agent answers.
    Says(Box<Details>),
    /// Its agent does not, with the reason.
    Silent(String),
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Founding => f.write_str("founding"),
            Self::Present { cluster } => write!(f, "of cluster {cluster}"),
            Self::Foreign { reason } => write!(f, "foreign: {reason}"),
        }
    }
}

impl Witness {
    /// What it says of its data; a subject that has not looked yet says nothing.
    pub fn data(&self) -> Option<&Data> {
        match self {
            Self::Says(details) => details.data.as_ref(),
            Self::Silent(_) => None,
        }
    }

    /// A word or two for a list of members: its role, else what its data is.
    pub fn word(&self) -> String {
        match self {
            Self::Silent(_) => "no answer".into(),
            Self::Says(details) => match (&details.role, &details.data) {
                (Some(role), _) => role.clone(),
                (None, Some(Data::Present { .. })) => "not serving".into(),
                (None, Some(Data::Empty)) => "empty".into(),
                (None, Some(Data::Founding)) => "founding".into(),
                (None, Some(Data::Foreign { .. })) => "foreign data".into(),
                (None, None) => "starting".into(),
            },
        }
    }
}

/// What may be done about an empty data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Every coordinator holds nothing: found.
    Form,
    /// A majority holds the data: join.
    Join,
    /// Neither, for these reasons.
    Wait(Vec<Problem>),
}

/// The other coordinators as this one sees them. Every other member is there.
pub type Others = BTreeMap<NodeId, Witness>;

/// The role of the member that leads, in every service that has one.
pub const LEADER: &str = "leader";

/// Who leads, by its own word.
pub fn leader(others: &Others) -> Option<NodeId> {
    let leads = |witness: &Witness| match witness {
        Witness::Says(details) => details.role.as_deref() == Some(LEADER),
        Witness::Silent(_) => false,
    };
    others.iter().find(|(_, witness)| leads(witness)).map(|(id, _)| *id)
}

/// Decides for a coordinator whose own data directory is empty.
///
/// `members` are all coordinators with this one. A member that `others` lacks counts as silent.
pub fn decide(members: &BTreeMap<NodeId, NodeName>, me: NodeId, others: &Others) -> Decision {
    let majority = members.len() / 2 + 1;
    let mut count = Count::default();
    for (id, name) in members.iter().filter(|(id, _)| **id != me) {
        count.add(name, others.get(id));
    }
    if count.present.len() >= majority {
        return Decision::Join;
    }
    if count.present.is_empty() && count.unknown.is_empty() {
        return Decision::Form;
    }
    let mut reasons = Vec::new();
    if !count.present.is_empty() {
        reasons.push(minority(&count, members.len(), majority));
    }
    reasons.extend(count.unknown);
    Decision::Wait(reasons)
}

/// What the others say, sorted.
#[derive(Default)]
struct Count {
    /// The names of those that hold the data.
    present: Vec<String>,
    /// Those of whom it is not known that they hold nothing, each with the reason.
    unknown: Vec<Problem>,
    /// How many of them may come back with the data.
    hopeful: usize,
}

impl Count {
    fn add(&mut self, name: &NodeName, witness: Option<&Witness>) {
        let mut doubt = |reason: String| {
            self.unknown.push(Problem { object: name.to_string(), reason });
        };
        let silent = |reason: &str| format!("does not answer, and may hold the data: {reason}");
        match witness {
            Some(Witness::Says(details)) => match &details.data {
                Some(Data::Empty | Data::Founding) => {}
                Some(Data::Present { .. }) => self.present.push(name.to_string()),
                Some(Data::Foreign { reason }) => {
                    doubt(format!("has data that is not this cluster's: {reason}"));
                }
                None => {
                    self.hopeful += 1;
                    doubt("answers, and has not looked at its data yet".into());
                }
            },
            Some(Witness::Silent(reason)) => {
                self.hopeful += 1;
                doubt(silent(reason));
            }
            None => {
                self.hopeful += 1;
                doubt(silent("not asked yet"));
            }
        }
    }
}

/// Some hold the data, but too few.
fn minority(count: &Count, members: usize, majority: usize) -> Problem {
    let have = count.present.join(", ");
    let reason = if count.present.len() + count.hopeful >= majority {
        format!("of {members} coordinators only {have} is seen with data; {majority} are needed")
    } else {
        format!(
            "of {members} coordinators only {have} still has data, {majority} are needed: a majority is lost, and \
             what it had committed may be missing; a person must decide to go on with it"
        )
    };
    Problem { object: "quorum".into(), reason }
}
