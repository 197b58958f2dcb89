//! Into which stretches a new part is cut: pieces of its bytes as they are, and in a system the frames of its initrd.

use std::io::Write as _;
use std::ops::Range;

use anyhow::{Context as _, Result};
use trilith_core::release::{PIECE, REFERENCE};
use zstd::zstd_safe::find_frame_compressed_size;

use super::Part;

/// What a frame begins with (RFC 8878 3.1.1).
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// A smaller one is not worth the trouble.
const LEAST: usize = 1 << 20;

/// A stretch of a new part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Where it lies.
    pub(super) lies: Range<u64>,
    /// It is a frame that a node can make again, and here lies the one of the old part that it takes the place of.
    pub(super) frame: Option<Range<u64>>,
}

/// A part's bytes as they are.
pub(super) fn plain(lies: Range<u64>) -> impl Iterator<Item = Stretch> {
    let end = lies.end;
    let starts = std::iter::successors(Some(lies.start), |at| Some(at + PIECE));
    let starts = starts.take_while(move |at| *at < end);
    starts.map(move |at| Stretch { lies: at..(at + PIECE).min(end), frame: None })
}

/// A system, with the frames in it.
pub(super) fn system(old: &Part, new: &Part) -> Result<Vec<Stretch>> {
    let (old, new) = (old.read(0, old.size)?, new.read(0, new.size)?);
    let (mut stretches, mut at) = (Vec::new(), 0);
    // Systems are put together alike: the first one takes the place of the first.
    for (before, frame) in frames(&old).zip(frames(&new)) {
        if !is_made_again(&old[before.clone()], &new[frame.clone()])? {
            continue;
        }
        let lies = frame.start as u64..frame.end as u64;
        stretches.extend(plain(at..lies.start));
        at = lies.end;
        let before = before.start as u64..before.end as u64;
        stretches.push(Stretch { lies, frame: Some(before) });
    }
    stretches.extend(plain(at..new.len() as u64));
    Ok(stretches)
}

/// Where frames lie.
fn frames(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += bytes.get(at..)?.windows(MAGIC.len()).position(|it| it == MAGIC)?;
            let from = at;
            match find_frame_compressed_size(&bytes[from..]) {
                Ok(size) if size >= LEAST => {
                    at += size;
                    return Some(from..at);
                }
                _ => at += 1,
            }
        }
    })
}

/// Whether a node gets the same frame out of what is in it, and has the memory for it.
fn is_made_again(old: &[u8], new: &[u8]) -> Result<bool> {
    let (Ok(before), Ok(content)) = (zstd::decode_all(old), zstd::decode_all(new)) else {
        return Ok(false);
    };
    if (before.len() + content.len()) as u64 > PIECE + REFERENCE {
        return Ok(false);
    }
    let mut again = Vec::with_capacity(new.len());
    let mut encoder = trilith_frame::encoder(&mut again).context("cannot compress")?;
    encoder.write_all(&content).context("cannot compress")?;
    encoder.finish().context("cannot compress")?;
    Ok(again == new)
}
