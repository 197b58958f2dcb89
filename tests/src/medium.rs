//! A medium of `trilith usb`, spoiled: bundles on it that somebody changed, or that were not written to the end.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// How far from the end the partition with the bundles begins at most.
const FAR: u64 = 64 << 20;
/// Bytes in a block of a tar file.
const BLOCK: usize = 512;

/// Lets `change` do something to a bundle, without making it longer or shorter.
pub fn spoil(
    medium: &Path,
    bundle: &str,
    change: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<()> {
    let file = File::options().read(true).write(true).open(medium);
    let file = file.with_context(|| format!("cannot open {}", medium.display()))?;
    let size = file.metadata()?.len();
    let start = size.saturating_sub(FAR) / BLOCK as u64 * BLOCK as u64;
    let mut end = vec![0; usize::try_from(size - start)?];
    file.read_exact_at(&mut end, start)?;
    let found = find(&end, bundle).with_context(|| format!("no {bundle} on the medium"))?;
    let place = start + u64::try_from(found.start)?;
    let content = &mut end[found];
    change(content)?;
    Ok(file.write_all_at(content, place)?)
}

/// Another text of the same length in place of the first of its kind.
pub fn replace(content: &mut [u8], from: &str, to: &str) -> Result<()> {
    ensure!(from.len() == to.len(), "{to:?} has another length than {from:?}");
    let at = content.windows(from.len()).position(|part| part == from.as_bytes());
    let at = at.with_context(|| format!("no {from:?} in the bundle"))?;
    content[at..at + to.len()].copy_from_slice(to.as_bytes());
    Ok(())
}

/// Where the content of this file is in these blocks, in one of which its tar header is.
fn find(blocks: &[u8], name: &str) -> Option<std::ops::Range<usize>> {
    let is_it = |header: &[u8]| {
        let named = header.strip_prefix(name.as_bytes()).is_some_and(|rest| rest[0] == 0);
        named && &header[257..262] == b"ustar"
    };
    let header = blocks.chunks_exact(BLOCK).position(is_it)? * BLOCK;
    let digits = std::str::from_utf8(&blocks[header + 124..header + 135]).ok()?;
    let size = usize::from_str_radix(digits.trim_matches(['\0', ' ']), 8).ok()?;
    let start = header + BLOCK;
    (start + size <= blocks.len()).then_some(start..start + size)
}
