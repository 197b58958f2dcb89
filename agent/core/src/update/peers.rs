//! Which nodes of the cluster are asked for what of a release, before its source is.
//!
//! A node that has a release in a slot gives stretches of it to the others. Whoever gives them, they are checked block by
//! block against the release's own hash tree before they are written; so nobody has to be believed, only asked in an order
//! that spreads the work, and left alone when nothing good comes. What nobody gives, the source does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::boot::RootHash;
use crate::names::{BadValue, NodeId, NodeName};
use crate::status::problem;
use crate::subject::{Plan, Subject};

#[cfg(test)]
mod tests;

/// What a node has of releases ([`Shared`], JSON); behind it, `/ROOT HASH/PART`: stretches of one, by ranges.
pub const RELEASES: &str = "/v1/releases";
/// On an agent's local socket: who there is to ask ([`Nodes`], JSON); behind it, `/ID` and what that node's agent is asked.
pub const NODES: &str = "/v1/nodes";
/// Where a node's own program listens that reads its slots.
pub const SOCKET: &str = "/run/trilith-share.sock";
/// The longest stretch that is given at a time, in bytes.
pub const LONGEST: u64 = 4 << 20;
/// So many blocks that are there do not end a run. Between two releases that were measured, with 26 MiB that lack, that halves
/// the questions, each with a handshake of its own, for half as many bytes again.
const GAP: u64 = 16;

/// So many nodes are asked what they have.
const NEAR: usize = 12;
/// So many are asked for stretches at a time.
const AT_A_TIME: usize = 4;
/// So often in a row one may fail.
const FAILURES: u32 = 2;
/// So often in a row one may be seen fetching without coming any further.
const STILL: u32 = 90;

/// A part of a release that is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The root.
    Root,
    /// Its hash tree.
    Tree,
}

/// What a node has of releases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shared {
    /// The roots that are in slots, whole.
    pub roots: Vec<RootHash>,
    /// What it is fetching.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetching: Option<Fetching>,
}

/// A fetch, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetching {
    /// Of which root.
    pub root: RootHash,
    /// How far it is, in words: others mean that it goes on.
    pub how_far: String,
}

/// The nodes of the cluster, as one of them sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// That one.
    pub me: NodeId,
    /// All others.
    pub others: Vec<Node>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its ID.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
}

/// A stretch of a part, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Where it begins.
    pub from: u64,
    /// How long it is.
    pub size: u64,
}

/// The others, as sources of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peers;

/// What is wanted of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// Who wants it.
    pub me: NodeId,
    /// The release.
    pub root: RootHash,
    /// What is lacking, and nobody was asked for yet.
    pub runs: Vec<Run>,
}

/// One of the others, as far as it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// Its ID.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// What it says that it has.
    #[serde(default)]
    pub shared: Shared,
    /// How often in a row it did not give what it was asked for.
    #[serde(default)]
    pub failed: u32,
    /// Whether it gave something else.
    #[serde(default)]
    pub wrong: bool,
    /// Whether it is being asked now.
    #[serde(default)]
    pub asked: bool,
    /// How often in a row it was no further with its fetch.
    #[serde(default)]
    pub still: u32,
}

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask a node for a stretch.
    Ask(NodeId, Run),
    /// Look again later: a node is fetching the release, and gives it once it is there. One fetch from the source serves all.
    Await(NodeId),
    /// The source has the rest.
    Leave,
}

impl Subject for Peers {
    const NAME: &'static str = "peers";
    type Desired = Want;
    type Observed = Vec<Neighbour>;
    type Step = Step;

    /// No step: there is nothing to ask for, or nobody to ask before one of those who are being asked has answered.
    fn plan(want: &Want, neighbours: &Vec<Neighbour>) -> Plan<Step> {
        let left_alone = neighbours.iter().filter_map(|it| Some((it, it.left_alone()?)));
        let problems =
            left_alone.map(|(it, why)| problem(it.name.as_str(), why.to_owned())).collect();
        let steps = if want.runs.is_empty() { Vec::new() } else { want.steps(neighbours) };
        Plan { steps, problems }
    }
}

impl Want {
    fn steps(&self, neighbours: &[Neighbour]) -> Vec<Step> {
        let usable = || neighbours.iter().filter(|it| it.left_alone().is_none());
        let givers: Vec<_> = usable().filter(|it| it.shared.roots.contains(&self.root)).collect();
        if givers.is_empty() {
            // Whoever has a smaller ID does not wait for this node, so that somebody asks the source.
            let fetching = usable().filter(|it| it.id < self.me && it.fetches(&self.root));
            return vec![fetching.map(|it| it.id).min().map_or(Step::Leave, Step::Await)];
        }
        let busy = givers.iter().filter(|it| it.asked).count();
        let mut idle: Vec<_> = givers.into_iter().filter(|it| !it.asked).collect();
        // Each node begins with those behind it, so that not all begin with the same one.
        idle.sort_by_key(|it| (it.failed, distance(self.me, it.id)));
        let idle = idle.into_iter().take(AT_A_TIME.saturating_sub(busy));
        idle.zip(&self.runs).map(|(it, run)| Step::Ask(it.id, *run)).collect()
    }
}

impl Neighbour {
    /// One that was not asked for anything yet.
    pub fn new(node: Node, shared: Shared) -> Self {
        let Node { id, name } = node;
        Self { id, name, shared, failed: 0, wrong: false, asked: false, still: 0 }
    }

    /// Takes what it says now, after what it said before.
    pub fn says(&mut self, shared: Shared) {
        let still = self.shared.fetching.is_some() && self.shared.fetching == shared.fetching;
        self.still = if still { self.still + 1 } else { 0 };
        self.shared = shared;
    }

    /// Why it is not asked any more.
    fn left_alone(&self) -> Option<&'static str> {
        if self.wrong {
            return Some("gave what is not the release's: it is not asked any more");
        }
        (self.failed >= FAILURES).then_some("does not give what it has: it is not asked any more")
    }

    fn fetches(&self, root: &RootHash) -> bool {
        self.still < STILL && self.shared.fetching.as_ref().is_some_and(|it| it.root == *root)
    }
}

/// How far it is from one node to another, around the ring of IDs.
fn distance(from: NodeId, to: NodeId) -> u16 {
    u16::from(to).wrapping_sub(from.into())
}

/// Who is asked what it has: all, if they are few; else the nearest, and others ever further away, so that what one node has
/// reaches all in a few steps, and nobody is asked by everybody.
pub fn near(nodes: &Nodes) -> Vec<Node> {
    let mut others = nodes.others.clone();
    others.sort_by_key(|it| distance(nodes.me, it.id));
    if others.len() <= NEAR {
        return others;
    }
    let far = std::iter::successors(Some(NEAR / 2), |at| Some(at * 2));
    let places: Vec<usize> = (0..NEAR / 2).chain(far.take(NEAR / 2)).collect();
    let chosen = others.into_iter().enumerate().filter(|(at, _)| places.contains(at));
    chosen.map(|(_, node)| node).collect()
}

/// How long one may take to give a stretch that has failed so often: a busy one is given more time, but not for ever.
pub fn patience(failed: u32) -> Duration {
    Duration::from_secs(10) * (failed + 1).min(FAILURES)
}

/// What lacks, in runs of at most [`LONGEST`]: `there` tells of each block of this many bytes whether it is there. A run goes
/// over the few blocks between two that lack: one more question costs more than they do.
pub fn runs(there: &[bool], block: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let lacking = (0..).zip(there).filter(|(_, there)| !**there);
    for from in lacking.map(|(at, _): (u64, _)| at * block) {
        match runs.last_mut() {
            Some(run)
                if from - (run.from + run.size) <= GAP * block
                    && from + block - run.from <= LONGEST =>
            {
                run.size = from + block - run.from;
            }
            _ => runs.push(Run { from, size: block }),
        }
    }
    runs
}

impl Run {
    /// As HTTP asks for it (RFC 9110, 14.2).
    pub fn header(self) -> String {
        format!("bytes={}-{}", self.from, self.from + self.size - 1)
    }

    /// Out of such a header. `None`: it is another form, empty, or longer than [`LONGEST`].
    pub fn of_header(text: &str) -> Option<Self> {
        let (from, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let (from, last): (u64, u64) = (from.parse().ok()?, last.parse().ok()?);
        let size = last.checked_sub(from)?.checked_add(1)?;
        (size <= LONGEST).then_some(Self { from, size })
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Tree => "tree",
        })
    }
}

impl FromStr for Held {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "root" => Ok(Self::Root),
            "tree" => Ok(Self::Tree),
            _ => Err(BadValue("of a release in a slot there are `root` and `tree`".into())),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(node, Run { from, size }) => {
                write!(f, "ask node {node} for {size} bytes from {from}")
            }
            Self::Await(node) => write!(f, "wait for node {node}, which fetches it"),
            Self::Leave => f.write_str("ask the source"),
        }
    }
}
