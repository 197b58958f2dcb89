//! A part by what differs from an older one: piece by piece, each checked before it is used, and what it made remembered.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};
use ring::digest::{Context, SHA256, digest};
use trilith_core::names::Sha256;
use trilith_core::release::{Delta, PIECE, Part, Piece, REFERENCE, WINDOW};
use zstd::stream::read::Decoder;

use super::{Fetch, Old, Place, sha256};
use crate::memory::Begun;
use crate::metadata::hex;
use crate::source::Bad;

/// How much is decompressed at a time.
const STEP: usize = 256 << 10;

impl Fetch<'_> {
    pub(super) async fn delta(
        &mut self,
        (name, part): (&str, &Part),
        delta: &Delta,
        to: &Place,
        old: &Old,
    ) -> Result<()> {
        sound(delta, part, old)?;
        let target = self.releases.target(&delta.download.target, delta.download.size)?;
        let reading = || format!("cannot read {}", old.path.display());
        let reference = File::open(&old.path).with_context(reading)?;
        let mut made = self.made(name, delta, to)?;
        let done = &delta.pieces[..made.len()];
        let (mut from, mut at) = (sum(done, |it| it.size), sum(done, |it| it.makes));
        for piece in &delta.pieces[made.len()..] {
            let frame = self.source.range(&target.path, from, piece.size).await?;
            if hex(digest(&SHA256, &frame).as_ref()) != piece.sha256.as_str() {
                return Err(Bad(format!("a piece of {} was changed", delta.download.target)).into());
            }
            let mut prefix = vec![0; usize::try_from(piece.reads)?];
            reference.read_exact_at(&mut prefix, piece.from).with_context(reading)?;
            made.push(undo(&frame, &prefix, piece, to, at)?);
            to.sync()?;
            let target = delta.download.target.clone();
            self.memory.put(self.folder, name, Begun::Delta { target, made: made.clone() })?;
            (from, at) = (from + piece.size, at + piece.makes);
            self.tell(at, part)?;
        }
        Ok(())
    }

    /// What earlier tries have made, as far as it is still there.
    fn made(&self, name: &str, delta: &Delta, to: &Place) -> Result<Vec<Sha256>> {
        let mut there = Vec::new();
        let Some(Begun::Delta { target, made }) = self.memory.parts.get(name) else {
            return Ok(there);
        };
        if *target != delta.download.target {
            return Ok(there);
        }
        let mut at = 0;
        for (piece, claim) in delta.pieces.iter().zip(made) {
            if to.sha256(at, piece.makes)?.as_ref() != Some(claim) {
                break;
            }
            there.push(claim.clone());
            at += piece.makes;
        }
        Ok(there)
    }
}

/// Decompresses a piece to its place, and gives what it made.
fn undo(frame: &[u8], prefix: &[u8], piece: &Piece, to: &Place, at: u64) -> Result<Sha256> {
    let broken = |error: std::io::Error| Bad(format!("a piece cannot be decompressed: {error}"));
    let mut decoder = Decoder::with_ref_prefix(frame, prefix).map_err(broken)?;
    decoder.window_log_max(WINDOW).map_err(broken)?;
    let (mut context, mut step, mut done) = (Context::new(&SHA256), vec![0; STEP], 0);
    loop {
        let length = decoder.read(&mut step).map_err(broken)?;
        if length == 0 {
            break;
        }
        let bytes = &step[..length];
        if done + length as u64 > piece.makes {
            return Err(Bad("a piece makes more than it should".into()).into());
        }
        to.write(at + done, bytes)?;
        context.update(bytes);
        done += length as u64;
    }
    if done != piece.makes {
        return Err(Bad("a piece makes less than it should".into()).into());
    }
    sha256(context)
}

/// Whether a delta keeps to what every node has room for in memory.
fn sound(delta: &Delta, part: &Part, old: &Old) -> Result<(), Bad> {
    let fits = |it: &Piece| {
        let behind = it.from.checked_add(it.reads);
        it.makes <= PIECE
            && it.reads <= REFERENCE
            && it.size <= 2 * PIECE
            && behind.is_some_and(|behind| behind <= old.size)
    };
    let whole = sum(&delta.pieces, |it| it.makes) == part.size
        && sum(&delta.pieces, |it| it.size) == delta.download.size;
    if whole && delta.pieces.iter().all(fits) {
        return Ok(());
    }
    Err(Bad(format!("{} is no delta that fits", delta.download.target)))
}

fn sum(pieces: &[Piece], of: impl Fn(&Piece) -> u64) -> u64 {
    pieces.iter().map(of).fold(0, u64::saturating_add)
}
