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
        if !is_made_again(&before, &frame, &new)? {
            continue;
        }
        stretches.extend(plain(at..frame.lies.start as u64));
        at = frame.lies.end as u64;
        stretches.push(Stretch { lies: wide(&frame.lies), frame: Some(wide(&before.lies)) });
    }
    stretches.extend(plain(at..new.len() as u64));
    Ok(stretches)
}

fn wide(range: &Range<usize>) -> Range<u64> {
    range.start as u64..range.end as u64
}

/// A frame in a system.
struct Frame {
    lies: Range<usize>,
    content: Vec<u8>,
}

fn frames(system: &[u8]) -> impl Iterator<Item = Frame> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += system.get(at..)?.windows(MAGIC.len()).position(|it| it == MAGIC)?;
            if let Some(frame) = frame(system, at) {
                at = frame.lies.end;
                return Some(frame);
            }
            // Programs that read frames have the number in them, too.
            at += 1;
        }
    })
}

fn frame(system: &[u8], at: usize) -> Option<Frame> {
    let size = find_frame_compressed_size(&system[at..]).ok().filter(|size| *size >= LEAST)?;
    let lies = at..at + size;
    let content = zstd::decode_all(&system[lies.clone()]).ok()?;
    Some(Frame { lies, content })
}

/// Whether a node gets the same frame out of what is in it, and has the memory for it.
fn is_made_again(before: &Frame, frame: &Frame, system: &[u8]) -> Result<bool> {
    if (before.content.len() + frame.content.len()) as u64 > PIECE + REFERENCE {
        return Ok(false);
    }
    let mut encoder = trilith_frame::encoder(Vec::new()).context("cannot compress")?;
    encoder.write_all(&frame.content).context("cannot compress")?;
    Ok(encoder.finish().context("cannot compress")? == system[frame.lies.clone()])
}
