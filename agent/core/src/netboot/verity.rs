//! Whether the blocks of a disk are those that a root hash stands for: the hash tree of dm-verity, as veritysetup and
//! systemd-repart write it (superblock version 1, hash type 1, SHA-256).
//!
//! The kernel checks each block when it reads it, and panics at a wrong one. This checks all of them at once, so that a
//! node can say which server gave it something else, and ask another.

use std::io::{self, Read};

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// The superblock at the beginning of a hash partition, as far as it is needed (cryptsetup, lib/verity/verity.c).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    data_block: usize,
    hash_block: usize,
    data_blocks: u64,
    salt: Vec<u8>,
}

/// A hash: SHA-256.
type Hash = [u8; SHA256_OUTPUT_LEN];

/// Why a root is not the one.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// The hash partition does not begin as one does.
    #[error("it has no hash tree of the kind that is known here")]
    Superblock,
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// The root hash is not 64 hex digits.
    #[error("{0:?} is not a root hash")]
    RootHash(String),
    /// The blocks are others.
    #[error(
        "its root is not the one with the root hash {wanted}: it was changed, or is of another release"
    )]
    Changed {
        /// What the blocks should give.
        wanted: String,
    },
}

impl Superblock {
    /// Its size on disk; the tree begins with the next whole hash block.
    pub const SIZE: usize = 512;

    /// Reads it.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerityError> {
        let wrong = || VerityError::Superblock;
        let bytes = bytes.get(..Self::SIZE).ok_or_else(wrong)?;
        let number = |at: usize| {
            let four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            u32::from_le_bytes(four)
        };
        let size = |at: usize| {
            let size = usize::try_from(number(at)).ok();
            size.filter(|size| size.is_power_of_two() && (512..=65_536).contains(size))
        };
        // Signature, version 1, hash type 1, and the algorithm in 32 bytes with zeroes behind it.
        let known = bytes.starts_with(b"verity\0\0") && number(8) == 1 && number(12) == 1;
        let algorithm = &bytes[32..64];
        if !known || !algorithm.starts_with(b"sha256\0") {
            return Err(wrong());
        }
        let salted = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        Ok(Self {
            data_block: size(64).ok_or_else(wrong)?,
            hash_block: size(68).ok_or_else(wrong)?,
            data_blocks: u64::from(number(72)) | u64::from(number(76)) << 32,
            salt: bytes.get(88..88 + salted).ok_or_else(wrong)?.to_vec(),
        })
    }

    /// Reads the data blocks from the beginning and compares what they hash to with the root hash. The tree on the disk
    /// is not looked at: the kernel checks it when it uses it, and it follows from the data.
    ///
    /// # Errors
    /// The data cannot be read, or is other data.
    pub fn check(&self, data: &mut impl Read, root_hash: &str) -> Result<(), VerityError> {
        let wanted = parse(root_hash).ok_or_else(|| VerityError::RootHash(root_hash.to_owned()))?;
        let mut tree = Tree { superblock: self, levels: Vec::new() };
        let mut block = vec![0; self.data_block];
        for _ in 0..self.data_blocks {
            data.read_exact(&mut block)?;
            tree.add(0, self.hash(&block));
        }
        let found = tree.finish();
        match found {
            Some(found) if found == wanted => Ok(()),
            _ => Err(VerityError::Changed { wanted: root_hash.to_owned() }),
        }
    }

    /// Hash type 1: the salt stands before the block.
    fn hash(&self, block: &[u8]) -> Hash {
        let mut context = Context::new(&SHA256);
        context.update(&self.salt);
        context.update(block);
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}

/// The tree over data that is still coming: of each level the block that is not full yet.
struct Tree<'a> {
    superblock: &'a Superblock,
    levels: Vec<Level>,
}

/// One level of it.
#[derive(Default)]
struct Level {
    block: Vec<u8>,
    /// How many hashes have been put into it.
    hashes: u64,
}

impl Tree<'_> {
    /// Puts a hash into a level; a block that is full is hashed into the next.
    fn add(&mut self, mut number: usize, mut hash: Hash) {
        loop {
            if self.levels.len() == number {
                self.levels.push(Level::default());
            }
            let level = &mut self.levels[number];
            level.block.extend_from_slice(&hash);
            level.hashes += 1;
            if level.block.len() < self.superblock.hash_block {
                return;
            }
            hash = self.superblock.hash(&std::mem::take(&mut level.block));
            number += 1;
        }
    }

    /// The root: the hash of the one block of the topmost level. Blocks that are not full end in zeroes.
    fn finish(mut self) -> Option<Hash> {
        let mut number = 0;
        loop {
            let level = self.levels.get_mut(number)?;
            if level.hashes == 1 {
                return level.block.get(..SHA256_OUTPUT_LEN)?.try_into().ok();
            }
            if !level.block.is_empty() {
                let mut block = std::mem::take(&mut level.block);
                block.resize(self.superblock.hash_block, 0);
                let hash = self.superblock.hash(&block);
                self.add(number + 1, hash);
            }
            number += 1;
        }
    }
}

fn parse(root_hash: &str) -> Option<Hash> {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    if root_hash.len() != 2 * hash.len() || !root_hash.is_ascii() {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&root_hash[at..at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests;
