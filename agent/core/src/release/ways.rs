//! How a part of a release is had with the fewest bytes.

use std::fmt;

use super::{Chunks, Delta, Download, Part};
use crate::boot::RootHash;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    /// By what differs from a release that is there.
    Delta(&'a Delta),
    /// By the chunks that are not there, and how many bytes those are, if that is known.
    Chunks(&'a Chunks, Option<u64>),
    /// All of it.
    Whole(&'a Download),
}

/// The ways to a part for who has these releases, whole and unchanged: the cheapest first. One that fails is followed by
/// the next; the last one always does. `lacks`: how many bytes of the part are not in its place yet, if that is known.
pub fn cheapest<'a>(part: &'a Part, have: &[RootHash], lacks: Option<u64>) -> Vec<Way<'a>> {
    let deltas = part.deltas.iter().filter(|delta| have.contains(&delta.base.root_hash));
    let mut ways: Vec<Way<'a>> = deltas.map(Way::Delta).collect();
    ways.extend(part.chunks.as_ref().filter(|_| !have.is_empty()).map(|chunks| {
        let seeds = chunks.seeds.iter().filter(|seed| have.contains(&seed.base.root_hash));
        // They alone go on from whatever is there.
        Way::Chunks(chunks, seeds.map(|seed| seed.fetch).chain(lacks).min())
    }));
    ways.push(Way::Whole(&part.whole));
    // Any older release saves something: chunks from one that nobody has measured still come before all of it.
    ways.sort_by_key(|way| (way.fetch().is_none() || matches!(way, Way::Whole(_)), way.fetch()));
    ways
}

impl Way<'_> {
    /// How many bytes it fetches, if that is known.
    pub fn fetch(&self) -> Option<u64> {
        match self {
            Self::Delta(delta) => Some(delta.download.size),
            Self::Chunks(_, fetch) => *fetch,
            Self::Whole(whole) => Some(whole.size),
        }
    }
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delta(delta) => {
                write!(f, "{} bytes that differ from {}", delta.download.size, delta.base.version)
            }
            Self::Chunks(_, Some(fetch)) => write!(f, "{fetch} bytes of chunks"),
            Self::Chunks(_, None) => f.write_str("the chunks that are not there"),
            Self::Whole(whole) => write!(f, "all of it, {} bytes", whole.size),
        }
    }
}
