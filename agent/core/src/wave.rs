//! The wave: a release goes over the whole cluster, one node at a time, and never at the price of a quorum.
//!
//! The operators' *wish* stands in ZooKeeper. Every node *stages* the release, which changes nothing that boots; when all
//! have it, one after the other *activates* it: hypervisors first, then coordinators, those that lead something last.
//! [`next`] says what one node does now, given a [`View`] of the cluster. It is a function of what there is to see, so
//! that a node that crashed, or somebody in its place, goes on where it stood.
//!
//! Two things in ZooKeeper keep nodes apart. The **turn** is lasting: whoever makes it is the only one that may activate,
//! through its restart, until it has come back proven and everything that was set for it is taken back. The **lock**
//! ends with its holder's session: who has it may change the turn, Ceph's flags and Patroni's leader. A node that dies
//! in its turn leaves the turn behind, and nobody else begins; others take back what it has set and say why it stopped.
//!
//! Only an activated release is seen by the boot loader, and only the one whose turn it is activates, after all others
//! are seen to run a proven one. So there is never more than one node with a release that is not proven, and a power
//! cut of the whole site starts all others on a proven one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::evacuate::Move;
use crate::names::{NodeId, NodeName};
use crate::status::{Problem, problem};
use crate::version::Version;

mod answer; // what one node does now
mod closing; // a turn that is over, or that nobody ends
pub mod command; // what an operator may say to a wave
pub mod health; // how the cluster's quorums, data and machines stand
mod hours; // when nodes may restart
pub mod local; // from what a node finds on itself to its word
pub mod monitors; // what Ceph's monitors are asked
mod order; // who comes when
pub mod parts; // from status to word, from words to health
mod places; // where machines go
mod safety; // what speaks against a node's restart
pub mod settings; // what the program must know of the cluster
#[cfg(test)]
mod tests;
pub mod word; // what a node says of itself

pub use answer::{blind, next};
pub use health::Health;
pub use hours::{Hours, hours};
pub use order::{Place, order};
pub use word::{Member, Silence};

/// For how long a node may be silent in its turn before it has activated, in seconds. Its agent says something each few
/// seconds; after 10 minutes Ceph would begin to copy what its OSDs hold (`mon_osd_down_out_interval`).
pub const LOST: u64 = 300;
/// For how long a node may be silent after it has activated, in seconds: three tries of 15 minutes for the gate, and as
/// many starts of a slow machine.
pub const GONE: u64 = 4500;

/// What the operators want. It stands in ZooKeeper until another one takes its place. Read strictly: a node whose release
/// does not know all of it does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Counts the waves: another one is another try.
    pub number: u64,
    /// Which release.
    pub version: Version,
    /// Whether to go on.
    pub state: Asked,
    /// Whether nodes on which it has failed may try it once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Nodes that are left alone and not waited for, such as broken ones.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub without: BTreeSet<NodeId>,
    /// Who said so last: the subject of the operator's certificate.
    pub who: String,
    /// When, in seconds since 1970-01-01 UTC by the clock of the node that was told. For people alone.
    pub at: u64,
}

/// Whether a wave is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// It goes on.
    Running,
    /// Nothing begins; a node that has activated comes to its end.
    Paused,
    /// As paused, and for good.
    Aborted,
}

/// One node's turn to activate: lasting, and there is at most one. Read as strictly as the wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Whose it is.
    pub node: NodeId,
    /// The number of the wish for which it was begun.
    pub wish: u64,
    /// What it activates.
    pub version: Version,
    /// Though it has failed here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Whether `noout` of its host is the wave's to set and to take back. It is an operator's own if it was there before.
    pub noout: bool,
    /// How far it is.
    pub phase: Phase,
}

/// How far a turn is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// What must be done before the restart is being done. Nothing boots another release yet.
    Prepares,
    /// It may have activated: from here on it is the node that must end its turn.
    Activated {
        /// The kernel's ID of the boot in which it did.
        boot: String,
    },
}

/// The cluster as one node sees it. The operator's tool and the nodes are of different ages in the middle of a wave: what is
/// unknown to one of them is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// What the operators want.
    #[serde(default)]
    pub wish: Option<Wish>,
    /// Whether nodes may restart at this time.
    #[serde(default)]
    pub hours: Hours,
    /// Who holds the lock.
    #[serde(default)]
    pub lock: Option<NodeId>,
    /// Whose turn it is.
    #[serde(default)]
    pub turn: Option<Turn>,
    /// What is known of the turn's node if the cluster file does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stranger: Option<Stranger>,
    /// Every node of the cluster file.
    pub nodes: BTreeMap<NodeId, Member>,
    /// How everything stands.
    #[serde(default)]
    pub health: Health,
}

/// The turn's node, as one sees it whose cluster file does not name it: bundles are of different ages while a node is
/// added or removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stranger {
    /// Its short name, by its own word; `None`: an older release does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<NodeName>,
    /// That it does not answer now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<Silence>,
}

/// What a node does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This, and then it looks again.
    Do(Step),
    /// Nothing, until these are no more.
    Wait(Vec<Problem>),
    /// Nothing: the wave has stopped, and only an operator starts it again.
    Halted(Vec<Problem>),
    /// Nothing: this node has what is wanted, or nothing is wanted.
    Rest,
}

/// One change. Every one of them may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Have the release put into the free slot. What boots next stays as it is.
    Stage {
        /// Which.
        version: Version,
        /// Though it has failed here.
        again: bool,
    },
    /// Take the lock, if nobody has it.
    Lock,
    /// Let the lock go.
    Unlock,
    /// Make the turn, if there is none.
    Begin(Turn),
    /// Hand Patroni's leadership to this member.
    Switch {
        /// Who leads now.
        from: NodeName,
        /// Who is to lead.
        to: NodeName,
    },
    /// Move the machines to other nodes while they run.
    Move(Vec<Move>),
    /// Set `noout` for this host.
    SetNoout(NodeName),
    /// Take it back.
    TakeBackNoout(NodeName),
    /// Write into the turn that this node activates, if turn and wish are as they were.
    Commit {
        /// The kernel's ID of this boot.
        boot: String,
    },
    /// Have it activated, and restart. Only behind [`Step::Commit`].
    Activate {
        /// What.
        version: Version,
        /// Though it has failed here.
        again: bool,
    },
    /// Take the wish for it back from the updater, as long as it has not activated: what is staged stays.
    Withdraw(Version),
    /// Say in this node's word that its turn was in vain.
    Fail {
        /// Under which wish.
        wish: u64,
        /// Why.
        why: String,
    },
    /// Remove the turn, if it is as it was.
    End,
}

impl View {
    /// A node, if the cluster file has it.
    fn member(&self, id: NodeId) -> Option<&Member> {
        self.nodes.get(&id)
    }

    /// A node's silence, be it a member or the turn's; `None`: it is there, or nothing is known of it.
    fn silence(&self, id: NodeId) -> Option<&Silence> {
        match (self.member(id), &self.stranger) {
            (Some(member), _) => member.silent.as_ref(),
            (None, stranger) => stranger.as_ref()?.silent.as_ref(),
        }
    }

    /// A node's host in Ceph, be it a member or the turn's.
    fn host(&self, id: NodeId) -> Option<&NodeName> {
        match (self.member(id), &self.stranger) {
            (Some(member), _) => Some(&member.name),
            (None, stranger) => stranger.as_ref()?.name.as_ref(),
        }
    }

    /// Nodes that the wave is about.
    fn meant<'a>(&'a self, wish: &'a Wish) -> impl Iterator<Item = (NodeId, &'a Member)> {
        let meant = |(id, _): &(&NodeId, &Member)| !wish.without.contains(id);
        self.nodes.iter().filter(meant).map(|(id, member)| (*id, member))
    }

    /// Whether every node that the wave is about runs the release, or a newer one, proven.
    pub fn is_over(&self, wish: &Wish) -> bool {
        self.turn.is_none() && self.meant(wish).all(|(_, member)| member.has(&wish.version))
    }

    /// Why the wave has stopped: on which nodes the release has failed.
    pub fn failures(&self, wish: &Wish) -> Vec<Problem> {
        let mut failures: Vec<Problem> = Vec::new();
        for (_, member) in self.meant(wish) {
            if let Some(why) = member.failure(wish) {
                failures.push(problem(member.name.as_str(), why));
            }
        }
        failures.extend(self.gone());
        failures
    }

    /// The node that activated and has not been heard of for too long.
    fn gone(&self) -> Option<Problem> {
        let turn = self.turn.as_ref().filter(|turn| turn.activated())?;
        let member = self.member(turn.node)?;
        let silent = member.silent_for(GONE)?;
        let reason = format!("it activated {} and is silent since: {}", turn.version, silent.why);
        Some(problem(member.name.as_str(), reason))
    }
}

impl Turn {
    /// Whether the node may have activated.
    pub fn activated(&self) -> bool {
        matches!(self.phase, Phase::Activated { .. })
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |problems: &[Problem]| {
            problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
        };
        match self {
            Self::Do(step) => step.fmt(f),
            Self::Wait(reasons) => write!(f, "waits: {}", all(reasons)),
            Self::Halted(reasons) => write!(f, "halted: {}", all(reasons)),
            Self::Rest => f.write_str("rests"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let once_more = |again: &bool| if *again { " though it has failed here" } else { "" };
        match self {
            Self::Stage { version, again } => write!(f, "stage {version}{}", once_more(again)),
            Self::Lock => f.write_str("take the lock"),
            Self::Unlock => f.write_str("let the lock go"),
            Self::Begin(turn) => {
                let noout = if turn.noout { ", with noout" } else { "" };
                write!(f, "begin the turn of node {} to {}{noout}", turn.node, turn.version)
            }
            Self::Switch { from, to } => write!(f, "let Patroni switch over from {from} to {to}"),
            Self::Move(moves) => {
                let each = moves.iter().map(|it| format!("{} to {}", it.name, it.to));
                write!(f, "move machines: {}", each.collect::<Vec<_>>().join(", "))
            }
            Self::SetNoout(host) => write!(f, "set noout for {host}"),
            Self::TakeBackNoout(host) => write!(f, "take back noout of {host}"),
            Self::Commit { boot } => write!(f, "commit to activate, in boot {boot}"),
            Self::Activate { version, again } => {
                write!(f, "activate {version}{}", once_more(again))
            }
            Self::Withdraw(version) => {
                write!(f, "take the wish for {version} back from the updater")
            }
            Self::Fail { wish, why } => write!(f, "say that wave {wish} failed here: {why}"),
            Self::End => f.write_str("end the turn"),
        }
    }
}
