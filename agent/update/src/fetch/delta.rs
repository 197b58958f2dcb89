//! A part by what differs from an older one: piece by piece, each checked before it is used, and what it made remembered. What
//! differs in frames of zstd is told of what is in them, and compressed again.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};
use ring::digest::{Context, SHA256, digest};
use trilith_core::names::Sha256;
use trilith_core::release::{Delta, Inside, PIECE, Part, Piece, REFERENCE, WINDOW};
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
            if let Some(inside) = &piece.inside {
                prefix = content(&prefix, inside.reads)?;
            }
            made.push(undo(&frame, &prefix, piece, Made::new(to, at, piece.makes))?);
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

/// What is in a frame.
fn content(frame: &[u8], size: u64) -> Result<Vec<u8>> {
    let mut content = Vec::with_capacity(usize::try_from(size)?);
    unpack(Decoder::with_buffer(frame), size, &mut content)?;
    Ok(content)
}

/// Makes a piece, and gives what it made.
fn undo(frame: &[u8], prefix: &[u8], piece: &Piece, mut made: Made<'_>) -> Result<Sha256> {
    let decoder = Decoder::with_ref_prefix(frame, prefix);
    if let Some(inside) = &piece.inside {
        let mut packed = trilith_frame::encoder(&mut made).context("cannot compress a piece")?;
        unpack(decoder, inside.makes, &mut packed)?;
        packed.finish().with_context(writing)?;
    } else {
        unpack(decoder, piece.makes, &mut made)?;
    }
    made.finish()
}

fn writing() -> String {
    "cannot write what a piece makes".to_owned()
}

/// Decompresses to where it goes, and no more than it should be.
fn unpack(decoder: io::Result<Decoder<'_, &[u8]>>, size: u64, to: &mut impl Write) -> Result<()> {
    let broken = |error: io::Error| Bad(format!("a piece cannot be decompressed: {error}"));
    let mut decoder = decoder.map_err(broken)?;
    decoder.window_log_max(WINDOW).map_err(broken)?;
    let (mut step, mut done) = (vec![0; STEP], 0);
    loop {
        let length = decoder.read(&mut step).map_err(broken)?;
        done += length as u64;
        if done > size || length == 0 && done < size {
            return Err(Bad("a piece makes more or less than it should".into()).into());
        }
        if length == 0 {
            return Ok(());
        }
        to.write_all(&step[..length]).with_context(writing)?;
    }
}

/// What a piece makes, in its place.
struct Made<'a> {
    to: &'a Place,
    at: u64,
    /// How many bytes it should be.
    size: u64,
    /// How many bytes it is. Those behind its size are counted, and written nowhere.
    done: u64,
    context: Context,
}

impl<'a> Made<'a> {
    fn new(to: &'a Place, at: u64, size: u64) -> Self {
        Self { to, at, size, done: 0, context: Context::new(&SHA256) }
    }

    fn finish(self) -> Result<Sha256> {
        if self.done != self.size {
            return Err(Bad("a piece makes another number of bytes".into()).into());
        }
        sha256(self.context)
    }
}

impl Write for Made<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at = self.at + self.done;
        self.done += bytes.len() as u64;
        if self.done <= self.size {
            self.to.file.write_all_at(bytes, at)?;
            self.context.update(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a delta keeps to what every node has room for in memory.
fn sound(delta: &Delta, part: &Part, old: &Old) -> Result<(), Bad> {
    let fits = |it: &Piece| {
        let behind = it.from.checked_add(it.reads);
        let bounded = match &it.inside {
            None => it.makes <= PIECE,
            Some(Inside { reads, makes }) => reads.saturating_add(*makes) <= PIECE + REFERENCE,
        };
        bounded
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
