//! What an operator may say to a wave, and what becomes of the wish.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Asked, View, Wish};
use crate::names::{NodeId, NodeName};
use crate::version::Version;

/// What an operator says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Bring the cluster to a release.
    Upgrade {
        /// Which.
        version: Version,
        /// Though it has failed on some nodes.
        #[serde(default)]
        again: bool,
        /// But for these nodes.
        #[serde(default)]
        without: BTreeSet<NodeId>,
    },
    /// Begin nothing more until told to.
    Pause,
    /// Go on.
    Resume,
    /// Begin nothing more, for good.
    Abort,
}

/// A command as the agent passes it on to the wave's program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// What.
    pub command: Command,
    /// Who says so: the subject of the certificate, as the agent has judged it.
    pub who: String,
}

/// Who says so, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// The subject of the certificate.
    pub who: String,
    /// In seconds since 1970-01-01 UTC, for people alone.
    pub at: u64,
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each says what it is in its message")]
pub enum Refusal {
    #[error("there is no wave")]
    Nothing,
    #[error("the wave to {0} is aborted: begin another one")]
    Aborted(Version),
    #[error("the wave to {0} is not paused")]
    NotPaused(Version),
    #[error("the wave to {0} is under way: abort it first")]
    UnderWay(Version),
    #[error("the wave to {0} is under way already")]
    Same(Version),
    #[error("the wave to {0} is paused: resume it")]
    Paused(Version),
    #[error("{node} runs {running}, which is newer than {version}: this is no upgrade")]
    Older { node: NodeName, running: Version, version: Version },
    #[error("{version} has failed on {node}: {why}; say --again to try it once more")]
    Failed { node: NodeName, version: Version, why: String },
    #[error("the cluster has no node {0}")]
    Unknown(NodeId),
    #[error("node {node} is in its turn to {version}: it must come to its end first")]
    Turn { node: NodeId, version: Version },
}

/// The wish after this command.
///
/// # Errors
/// It makes no sense now.
pub fn command(view: &View, command: &Command, speaker: Speaker) -> Result<Wish, Refusal> {
    let state = match command {
        Command::Upgrade { version, again, without } => {
            let number = view.wish.as_ref().map_or(1, |wish| wish.number.saturating_add(1));
            let Speaker { who, at } = speaker;
            let (version, without, again) = (version.clone(), without.clone(), *again);
            let wish = Wish { number, version, state: Asked::Running, again, without, who, at };
            return may_begin(view, &wish).map(|()| wish);
        }
        Command::Pause => Asked::Paused,
        Command::Resume => Asked::Running,
        Command::Abort => Asked::Aborted,
    };
    let wish = view.wish.clone().ok_or(Refusal::Nothing)?;
    match (wish.state, state) {
        (Asked::Aborted, _) => Err(Refusal::Aborted(wish.version)),
        (Asked::Paused, Asked::Paused) => Err(Refusal::Paused(wish.version)),
        (Asked::Running, Asked::Running) => Err(Refusal::NotPaused(wish.version)),
        (_, state) => Ok(Wish { state, who: speaker.who, at: speaker.at, ..wish }),
    }
}

fn may_begin(view: &View, wish: &Wish) -> Result<(), Refusal> {
    if let Some(id) = wish.without.iter().find(|id| !view.nodes.contains_key(id)) {
        return Err(Refusal::Unknown(*id));
    }
    under_way(view, wish)?;
    for (_, member) in view.meant(wish) {
        let Some(word) = &member.word else { continue };
        let (node, version) = (member.name.clone(), wish.version.clone());
        if word.running > version {
            return Err(Refusal::Older { node, running: word.running.clone(), version });
        }
        if let Some(why) = member.failure(wish) {
            return Err(Refusal::Failed { node, version, why });
        }
    }
    Ok(())
}

/// Two waves at once there are not. One to the same release that has stopped by a failure may be begun again.
fn under_way(view: &View, wish: &Wish) -> Result<(), Refusal> {
    let Some(now) = &view.wish else { return Ok(()) };
    let stopped = now.state == Asked::Aborted || view.is_over(now);
    let version = now.version.clone();
    if !stopped {
        match now.state {
            _ if now.version != wish.version => return Err(Refusal::UnderWay(version)),
            Asked::Paused => return Err(Refusal::Paused(version)),
            _ if wish.again && !view.failures(now).is_empty() => {}
            // Other nodes are left out than before.
            _ if wish.without != now.without => {}
            _ => return Err(Refusal::Same(version)),
        }
    }
    match &view.turn {
        Some(turn) if turn.activated() && !wish.without.contains(&turn.node) => {
            Err(Refusal::Turn { node: turn.node, version: turn.version.clone() })
        }
        _ => Ok(()),
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upgrade { version, again, without } => {
                write!(f, "upgrade to {version}")?;
                f.write_str(if *again { ", where it has failed as well" } else { "" })?;
                without.iter().try_for_each(|node| write!(f, ", without node {node}"))
            }
            Self::Pause => f.write_str("pause"),
            Self::Resume => f.write_str("resume"),
            Self::Abort => f.write_str("abort"),
        }
    }
}
