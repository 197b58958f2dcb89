//! What differs from an older release: pieces, each a frame of zstd with a stretch of the old part as its prefix.
//!
//! zstd's own `--patch-from` makes one frame whose reader holds all of the old part and all of the new one in memory, more
//! than 2 GiB for a root. Here each piece refers to the stretch of the old part that has most of its blocks. Files come in
//! the same order in both, so little lies outside of it. Frames in a system's initrd are compared by what is in them.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use sha2::{Digest as _, Sha256};
use trilith_core::names;
use trilith_core::release::{Inside, PIECE, Piece, REFERENCE, WINDOW};
use zstd::stream::raw::CParameter;
use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

mod stretches; // what each piece makes
#[cfg(test)]
mod tests;

use crate::build::hex;
use stretches::Stretch;

/// Files begin on its boundaries in a root (erofs).
const BLOCK: usize = 4096;

/// How finely stretches of the old part are told apart, in bytes.
const STRETCH: u64 = 1 << 20;

/// What the parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Systems, with frames in their initrds.
    System,
    /// Roots, or hash trees.
    Other,
}

/// Writes what makes `new` out of `old`.
pub(super) fn make(
    kind: Kind,
    (old, new): (&Path, &Path),
    output: &Path,
    level: i32,
) -> Result<Vec<Piece>> {
    let (old, new) = (Old::read(old)?, Part::open(new)?);
    let stretches = match kind {
        Kind::System => stretches::system(&old.part, &new)?,
        Kind::Other => stretches::plain(0..new.size).collect(),
    };
    let (next, done) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(stretch) = stretches.get(number) else { return Ok(()) };
            let piece = piece(&old, &new, stretch, level)?;
            let mut done = done.lock().map_err(|_| anyhow!("a thread has failed"))?;
            done.insert(number, piece);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined =
            threads.into_iter().map(|it| it.join().map_err(|_| anyhow!("a thread died"))?);
        joined.collect::<Result<()>>()
    })?;
    let mut done = done.into_inner().map_err(|_| anyhow!("a thread has failed"))?;
    let mut file = File::create(output)?;
    let mut pieces = Vec::new();
    for number in 0..stretches.len() {
        let (piece, frame) = done.remove(&number).context("a piece is missing")?;
        file.write_all(&frame)?;
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Makes one piece, and undoes it to see that it is right.
fn piece(old: &Old, new: &Part, stretch: &Stretch, level: i32) -> Result<(Piece, Vec<u8>)> {
    let (at, makes) = (stretch.lies.start, stretch.lies.end - stretch.lies.start);
    let mut content = new.read(at, makes)?;
    let reads = stretch.frame.clone().unwrap_or_else(|| {
        let from = old.best(&content, at);
        from..(from + REFERENCE).min(old.part.size)
    });
    let (from, reads) = (reads.start, reads.end - reads.start);
    let mut prefix = old.part.read(from, reads)?;
    let mut inside = None;
    if stretch.frame.is_some() {
        prefix = zstd::decode_all(prefix.as_slice()).context("cannot decompress an old frame")?;
        content = zstd::decode_all(content.as_slice()).context("cannot decompress a frame")?;
        inside = Some(Inside { reads: prefix.len() as u64, makes: content.len() as u64 });
    }
    let frame = compress(&content, &prefix, level).context("cannot compress a piece")?;
    let mut again = Vec::with_capacity(content.len());
    let mut decoder = Decoder::with_ref_prefix(frame.as_slice(), &prefix)?;
    decoder.window_log_max(WINDOW)?;
    decoder.read_to_end(&mut again)?;
    ensure!(again == content, "a piece does not make what it was made from");
    let sha256 = names::Sha256::try_from(hex(&Sha256::digest(&frame)))?;
    let size = frame.len() as u64;
    Ok((Piece { makes, from, reads, size, sha256, inside }, frame))
}

fn compress(content: &[u8], prefix: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    let mut encoder = Encoder::with_ref_prefix(Vec::new(), level, prefix)?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW))?;
    encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    encoder.set_pledged_src_size(Some(content.len() as u64))?;
    encoder.write_all(content)?;
    encoder.finish()
}

/// A part on the disk.
struct Part {
    file: File,
    size: u64,
}

impl Part {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    fn read(&self, at: u64, size: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(size)?];
        self.file.read_exact_at(&mut bytes, at).context("cannot read a part")?;
        Ok(bytes)
    }
}

/// The old part, and where its blocks are.
struct Old {
    part: Part,
    /// The first place of each block, by what it is.
    blocks: HashMap<u64, u64>,
}

impl Old {
    fn read(path: &Path) -> Result<Self> {
        let part = Part::open(path)?;
        let mut blocks = HashMap::new();
        let mut at = 0;
        // One that is referred to as a whole needs no looking.
        while part.size > REFERENCE && at < part.size {
            let bytes = part.read(at, PIECE.min(part.size - at))?;
            for (number, block) in (0..).zip(bytes.chunks(BLOCK)) {
                blocks.entry(known_by(block)).or_insert(at + number * BLOCK as u64);
            }
            at += PIECE;
        }
        Ok(Self { part, blocks })
    }

    /// Where the stretch begins that has most of these blocks, which lie at `at` in the new part.
    fn best(&self, content: &[u8], at: u64) -> u64 {
        let last = self.part.size.saturating_sub(REFERENCE);
        let mut hits = vec![0_u64; usize::try_from(self.part.size / STRETCH + 1).unwrap_or(1)];
        for block in content.chunks(BLOCK) {
            let place = self.blocks.get(&known_by(block)).map(|place| place / STRETCH);
            let hit = place.and_then(|place| hits.get_mut(usize::try_from(place).ok()?));
            if let Some(hit) = hit {
                *hit += 1;
            }
        }
        let length = usize::try_from(REFERENCE / STRETCH).unwrap_or(1);
        let sums = hits.windows(length).map(|stretch| stretch.iter().sum::<u64>());
        let middle = |start: u64| (start + REFERENCE / 2).abs_diff(at + PIECE / 2);
        let starts = (0..).map(|number| number * STRETCH).zip(sums);
        let starts = starts.filter(|(start, _)| *start <= last);
        // Of several that are as good, the one whose middle is where the piece is.
        let best = starts.max_by_key(|(start, sum)| (*sum, std::cmp::Reverse(middle(*start))));
        best.map_or(0, |(start, _)| start)
    }
}

fn known_by(block: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    block.hash(&mut hasher);
    hasher.finish()
}
