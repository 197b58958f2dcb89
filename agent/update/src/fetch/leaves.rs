//! The hash of each block of a root, out of its hash tree: the kernel checks every block that is read by them, and here those
//! are checked that come from somewhere else. The tree itself was checked before it is read.

use anyhow::Result;
use ring::digest::{Context, Digest, SHA256, SHA256_OUTPUT_LEN};

use super::Place;
use crate::source::Bad;

/// The size of all blocks, of the root's and of the tree's.
pub(super) const BLOCK: usize = 4096;
/// So many hashes fill one.
const PER_BLOCK: u64 = (BLOCK / SHA256_OUTPUT_LEN) as u64;
/// The most blocks that a root has here: 16 GiB of them.
const MOST: u64 = 4 << 20;
/// How the tree begins: a superblock, which fills a block (cryptsetup, `lib/verity/verity.c`).
const MAGIC: &[u8] = b"verity\0\0";
const ALGORITHM: &[u8] = b"sha256\0";
const LONGEST_SALT: usize = 256;

/// The hashes of all blocks of a root.
pub(super) struct Leaves {
    salt: Vec<u8>,
    hashes: Vec<u8>,
    /// The blocks, in the order of their hashes.
    order: Vec<u32>,
}

impl Leaves {
    /// Out of a hash tree.
    pub(super) fn read(tree: &Place) -> Result<Self> {
        let mut head = vec![0; BLOCK];
        tree.read(0, &mut head)?;
        let (blocks, salt) = superblock(&head)?;
        let mut hashes = vec![0; usize::try_from(blocks)? * SHA256_OUTPUT_LEN];
        tree.read(bottom(blocks) * BLOCK as u64, &mut hashes)?;
        let mut order: Vec<u32> = (0..u32::try_from(blocks)?).collect();
        order.sort_unstable_by_key(|at| one(&hashes, *at));
        Ok(Self { salt, hashes, order })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    /// Whether the block of this number is this one.
    pub(super) fn is(&self, number: usize, block: &[u8]) -> bool {
        let known = u32::try_from(number).map(|number| one(&self.hashes, number));
        known.is_ok_and(|known| known == self.hash(block).as_ref())
    }

    /// Everywhere where there is this block.
    pub(super) fn places(&self, block: &[u8]) -> impl Iterator<Item = usize> {
        let hash = self.hash(block);
        let first = self.order.partition_point(|at| one(&self.hashes, *at) < hash.as_ref());
        let rest = self.order[first..].iter();
        let same = rest.take_while(move |at| one(&self.hashes, **at) == hash.as_ref());
        same.filter_map(|at| usize::try_from(*at).ok())
    }

    fn hash(&self, block: &[u8]) -> Digest {
        let mut context = Context::new(&SHA256);
        context.update(&self.salt);
        context.update(block);
        context.finish()
    }
}

fn one(hashes: &[u8], number: u32) -> &[u8] {
    let at = usize::try_from(number).unwrap_or_default() * SHA256_OUTPUT_LEN;
    hashes.get(at..at + SHA256_OUTPUT_LEN).unwrap_or_default()
}

/// Where the hashes of the root's own blocks begin, in blocks: behind the superblock and the hashes of hashes.
fn bottom(blocks: u64) -> u64 {
    let level = |below: &u64| (*below > 1).then(|| below.div_ceil(PER_BLOCK));
    let levels = std::iter::successors(Some(blocks.div_ceil(PER_BLOCK)), level);
    1 + levels.skip(1).sum::<u64>()
}

/// How many blocks the root has, and the salt.
fn superblock(head: &[u8]) -> Result<(u64, Vec<u8>), Bad> {
    let number = |at: usize| <[u8; 4]>::try_from(&head[at..at + 4]).map_or(0, u32::from_le_bytes);
    let blocks = <[u8; 8]>::try_from(&head[72..80]).map_or(0, u64::from_le_bytes);
    let salt = usize::from(u16::from_le_bytes([head[80], head[81]]));
    let known = head.starts_with(MAGIC)
        // The first version of this form, and hashes of a block behind the salt.
        && [number(8), number(12)] == [1, 1]
        && head[32..64].starts_with(ALGORITHM)
        && [number(64), number(68)].map(|size| usize::try_from(size) == Ok(BLOCK)) == [true; 2];
    if known && blocks <= MOST && salt <= LONGEST_SALT {
        return Ok((blocks, head[88..88 + salt].to_vec()));
    }
    Err(Bad("the hash tree is of a form that nobody knows here".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As veritysetup(8) lays them out.
    #[test]
    fn the_hashes_of_blocks_come_last() {
        assert_eq!([1, 128].map(bottom), [1, 1]);
        assert_eq!([129, 128 * 128].map(bottom), [2, 2]);
        assert_eq!(bottom(128 * 128 + 1), 1 + 1 + 2);
        assert!(superblock(&[0; BLOCK]).is_err());
    }
}
