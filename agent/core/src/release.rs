//! A release, as its manifest tells it: what it is, from where one may come to it and go back, and how each of its parts
//! can be had. `trilith release` writes it, a target of the release's signed metadata; nodes read it, also those of older
//! releases: fields may be added, and a reader leaves unknown ones alone. What an older node must not overlook is said by
//! `min_from` or by a format. Whatever it makes of a delta that it does not understand is not what the part's hash says, and
//! it goes another way.

mod formats; // what is kept in /var, and who can read it
#[cfg(test)]
mod tests;
mod ways; // how a part is had with the fewest bytes

pub use formats::{Format, NoPackage, Range, STATE, formats};
pub use ways::{Way, cheapest};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::boot::RootHash;
use crate::names::Sha256;
use crate::version::Version;

/// The most bytes of a part that one piece of a delta makes, unless it is a frame: what a node holds in memory of the new.
pub const PIECE: u64 = 32 << 20;
/// The most bytes of the old part that a piece refers to: what a node holds in memory of the old.
pub const REFERENCE: u64 = 96 << 20;
/// The window of a piece (zstd, RFC 8878 3.1.1.1.2), as a power of two: it spans both.
pub const WINDOW: u32 = 27;

/// What a release says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its version.
    pub version: Version,
    /// The oldest version that may be upgraded to it.
    pub min_from: Version,
    /// What it keeps in /var, by component.
    pub formats: BTreeMap<String, Format>,
    /// The hash of its root.
    pub root_hash: RootHash,
    /// The system that the boot loader starts. Its root hash is in it.
    pub uki: Part,
    /// The root.
    pub root: Part,
    /// The root's hash tree.
    pub verity: Part,
    /// The boot loader, signed if the release is.
    pub loader: Download,
    /// The disk image that media are made from, compressed with zstd.
    pub disk: Download,
    /// The signature of the root hash (PKCS #7, DER), if the release is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_signature: Option<Download>,
    /// The packages in it: lines of name, version, architecture.
    pub packages: Download,
    /// What is in it, for scanners (SPDX 2.3, JSON).
    pub sbom: Download,
}

/// A file that goes into a slot or onto the ESP, and the ways to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its size, in bytes.
    pub size: u64,
    /// What it is.
    pub sha256: Sha256,
    /// All of it, compressed with zstd.
    pub whole: Download,
    /// In chunks that other versions have as well, a bita archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<Chunks>,
    /// What differs from older releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<Delta>,
}

/// A target of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// Its name.
    pub target: String,
    /// Its size, in bytes.
    pub size: u64,
}

/// An archive of chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// All of it.
    pub archive: Download,
    /// How much of it is fetched by who has an older release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<Seed>,
}

/// An older release as a source of chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Which one.
    pub base: Base,
    /// How many bytes of the archive it lacks.
    pub fetch: u64,
}

/// An older release. Two builds may have one version, so it is known by its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its version.
    pub version: Version,
    /// The hash of its root.
    pub root_hash: RootHash,
}

/// What makes a part out of the same part of an older release.
///
/// The pieces lie one behind the other in the target, and what they make lies one behind the other in the part. Each
/// stands for itself, so that it takes little memory, is checked before it is used, and nothing is fetched twice after an
/// interruption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The older release.
    pub base: Base,
    /// Where it is.
    pub download: Download,
    /// What it is made of.
    pub pieces: Vec<Piece>,
}

/// One frame of zstd, with a stretch of the old part as its prefix (`zstd --patch-from`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// How many bytes of the part it makes, at most [`PIECE`].
    pub makes: u64,
    /// Where in the old part its prefix begins, in bytes.
    pub from: u64,
    /// How many bytes that has, at most [`REFERENCE`].
    pub reads: u64,
    /// The size of the frame, in bytes.
    pub size: u64,
    /// What the frame is.
    pub sha256: Sha256,
    /// Both stretches are frames of zstd themselves, and the piece makes what is in the one of what is in the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<Inside>,
}

/// What is in two frames, at most [`PIECE`] and [`REFERENCE`] together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// How many bytes are in the one of the old part.
    pub reads: u64,
    /// How many bytes are in the one that it makes.
    pub makes: u64,
}

/// Why one release may not take the place of another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It runs already.
    #[error("{0} runs already")]
    Same(Version),
    /// It is no upgrade.
    #[error("{next} is older than {running}, which runs: this is no upgrade")]
    Older {
        /// What runs.
        running: Version,
        /// What was asked for.
        next: Version,
    },
    /// There is one to be taken between.
    #[error(
        "{next} takes upgrades from {min_from} or newer, and {running} runs: first upgrade to one between them"
    )]
    TooFar {
        /// What runs.
        running: Version,
        /// What was asked for.
        next: Version,
        /// From where one may come to it.
        min_from: Version,
    },
    /// Its programs could not read what there is.
    #[error(
        "{component}: {reader} reads the formats {} to {}, and what {writer} leaves is of format {written}",
        reads.from, reads.to
    )]
    Unreadable {
        /// The component.
        component: String,
        /// Who would have to read it.
        reader: Version,
        /// What that can read.
        reads: Range,
        /// Who has written it.
        writer: Version,
        /// What that writes.
        written: Version,
    },
    /// It has no such programs.
    #[error("{component}: {reader} does not have it, and {writer} leaves data of it")]
    Unknown {
        /// The component.
        component: String,
        /// Who would have to read it.
        reader: Version,
        /// Who has written it.
        writer: Version,
    },
}

impl Manifest {
    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    /// The target that is the manifest of this version.
    pub fn target(version: &Version) -> String {
        format!("{}.yaml", version.label())
    }

    /// The release as a base of others.
    pub fn base(&self) -> Base {
        Base { version: self.version.clone(), root_hash: self.root_hash.clone() }
    }

    /// Whether a node that runs this one may be upgraded to `next`.
    ///
    /// # Errors
    /// Every reason against it.
    pub fn may_follow(&self, next: &Self) -> Result<(), Vec<Refusal>> {
        let (running, wanted) = (self.version.clone(), next.version.clone());
        let mut refusals = Vec::new();
        if running == wanted {
            refusals.push(Refusal::Same(running));
        } else if running > wanted {
            refusals.push(Refusal::Older { running, next: wanted });
        } else if running < next.min_from {
            let min_from = next.min_from.clone();
            refusals.push(Refusal::TooFar { running, next: wanted, min_from });
        }
        refusals.extend(self.unread_by(next));
        none(refusals)
    }

    /// Whether a node that has run this one can go back to `previous`: whether that reads what this one wrote.
    ///
    /// # Errors
    /// Every reason against it.
    pub fn may_return(&self, previous: &Self) -> Result<(), Vec<Refusal>> {
        none(self.unread_by(previous).collect())
    }

    /// What this release leaves in /var that the other cannot read.
    fn unread_by<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Refusal> + 'a {
        self.formats.iter().filter_map(|(component, format)| {
            let (component, reader) = (component.clone(), other.version.clone());
            let writer = self.version.clone();
            let Some(theirs) = other.formats.get(&component) else {
                return Some(Refusal::Unknown { component, reader, writer });
            };
            let (reads, written) = (theirs.reads.clone(), format.writes.clone());
            let readable = reads.has(&written);
            (!readable).then_some(Refusal::Unreadable { component, reader, reads, writer, written })
        })
    }
}

fn none(refusals: Vec<Refusal>) -> Result<(), Vec<Refusal>> {
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}
