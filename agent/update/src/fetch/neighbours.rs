//! Parts from other nodes that have the release in a slot, before the source is asked. The hash tree comes whole from one of
//! them, and is checked by the manifest; a root comes block by block from all of them, each block checked by the tree before
//! it is written. What the older release has is not asked for.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};
use trilith_core::boot::RootHash;
use trilith_core::names::NodeId;
use trilith_core::release::Part;
use trilith_core::update::peers::{Held, Run, Step, runs};

use super::leaves::{BLOCK, Leaves};
use super::{Fetch, Old, PIECE, Place, is_there};
use crate::memory::Begun;
use crate::peers::{Answer, Coming, Peers};

/// What other nodes may give.
#[derive(Clone, Copy)]
pub(crate) struct Neighbours<'a> {
    /// Who they are.
    pub(crate) peers: &'a Peers,
    /// The release.
    pub(crate) root_hash: &'a RootHash,
    /// Where its hash tree is, whole, if it is the root that is fetched.
    pub(crate) tree: Option<&'a Place>,
}

/// A root while it comes.
struct Blocks<'a> {
    leaves: Leaves,
    there: Vec<bool>,
    to: &'a Place,
}

impl Fetch<'_> {
    /// Fetches as much as they have, and gives how many bytes lack then; `None`: as many as before.
    pub(super) async fn by_neighbours(
        &mut self,
        (name, part): (&str, &Part),
        to: &Place,
        old: Option<&Old>,
    ) -> Result<Option<u64>> {
        let Some(neighbours) = self.neighbours else { return Ok(None) };
        if !neighbours.peers.have(neighbours.root_hash) {
            return Ok(None);
        }
        eprintln!("{name}: from other nodes, which have it");
        match neighbours.tree {
            None => whole_tree(neighbours, part, to).await,
            Some(tree) => self.root((name, part), (neighbours, tree), to, old).await.map(Some),
        }
    }

    /// The root, from all of them at once.
    async fn root(
        &mut self,
        (name, part): (&str, &Part),
        (neighbours, tree): (Neighbours<'_>, &Place),
        to: &Place,
        old: Option<&Old>,
    ) -> Result<u64> {
        let leaves = Leaves::read(tree)?;
        if leaves.count() as u64 * BLOCK as u64 != part.size {
            // The last word is that of the whole, whatever the tree says; this way is none then.
            return Ok(part.size);
        }
        let there = vec![false; leaves.count()];
        let mut blocks = Blocks { leaves, there, to };
        if self.memory.parts.contains_key(name) {
            blocks.look();
        }
        self.memory.put(self.folder, name, Begun::Blocks)?;
        if let Some(old) = old {
            blocks.seed(old)?;
        }
        self.blocks(&mut blocks, neighbours, part).await?;
        Ok(blocks.lacks())
    }

    /// Asks for what lacks, for as long as somebody gives it.
    async fn blocks(
        &self,
        blocks: &mut Blocks<'_>,
        Neighbours { peers, root_hash, .. }: Neighbours<'_>,
        part: &Part,
    ) -> Result<()> {
        let mut coming = Coming::new();
        let mut lacking = runs(&blocks.there, BLOCK as u64);
        loop {
            self.tell(part.size - blocks.lacks(), part)?;
            ask((peers, root_hash), &mut lacking, &mut coming);
            // Nobody is asked any more: nothing lacks, or nobody has it.
            let Some(answer) = coming.join_next().await else { return Ok(()) };
            let Answer { node, run, bytes } = answer?;
            match bytes {
                Ok(bytes) if blocks.take(run, &bytes)? => {
                    peers.right(node, run.size);
                    continue;
                }
                Ok(_) => peers.wrong(node),
                Err(error) => peers.failed(node, &error),
            }
            lacking.push(run);
        }
    }
}

/// Asks for some of what lacks, if somebody has time for it.
fn ask((peers, root_hash): (&Peers, &RootHash), lacking: &mut Vec<Run>, coming: &mut Coming) {
    for step in peers.plan(root_hash, lacking.clone()).steps {
        let Step::Ask(node, run) = step else { continue };
        lacking.retain(|it| *it != run);
        peers.request((root_hash, Held::Root), (node, run), coming);
    }
}

/// The tree, from one after the other until it is right.
async fn whole_tree(
    Neighbours { peers, root_hash, .. }: Neighbours<'_>,
    part: &Part,
    to: &Place,
) -> Result<Option<u64>> {
    let blocks = usize::try_from(part.size)?.div_ceil(BLOCK);
    // It may end within a block.
    let cut = |run: Run| Run { size: run.size.min(part.size - run.from), ..run };
    let all: Vec<Run> = runs(&vec![false; blocks], BLOCK as u64).into_iter().map(cut).collect();
    while let Some(Step::Ask(node, _)) = peers.plan(root_hash, all.clone()).steps.first() {
        let node = *node;
        if !tree_of(node, (peers, root_hash), &all, to).await? {
            continue;
        }
        if is_there(part, to)? {
            peers.right(node, part.size);
            return Ok(Some(0));
        }
        peers.wrong(node);
    }
    Ok(None)
}

/// All of the tree from this one; whether it came.
async fn tree_of(
    node: NodeId,
    (peers, root_hash): (&Peers, &RootHash),
    all: &[Run],
    to: &Place,
) -> Result<bool> {
    for run in all {
        let mut coming = Coming::new();
        peers.request((root_hash, Held::Tree), (node, *run), &mut coming);
        let Some(answer) = coming.join_next().await else { return Ok(false) };
        match answer?.bytes {
            Ok(bytes) => to.write(run.from, &bytes)?,
            Err(error) => {
                peers.failed(node, &error);
                return Ok(false);
            }
        }
    }
    Ok(true)
}

impl Blocks<'_> {
    /// Sees which ones are in their places.
    fn look(&mut self) {
        let mut piece = vec![0; PIECE];
        for first in (0..self.there.len()).step_by(PIECE / BLOCK) {
            let count = (self.there.len() - first).min(PIECE / BLOCK);
            let piece = &mut piece[..count * BLOCK];
            // A file that is still to grow has no more.
            if self.to.read(at(first), piece).is_err() {
                return;
            }
            for (number, block) in (first..).zip(piece.chunks_exact(BLOCK)) {
                self.there[number] = self.leaves.is(number, block);
            }
        }
    }

    /// Takes those that the older release has, wherever they are in it.
    fn seed(&mut self, old: &Old) -> Result<()> {
        let reading = || format!("cannot read {}", old.path.display());
        let file = File::open(&old.path).with_context(reading)?;
        let mut piece = vec![0; PIECE];
        let mut from = 0;
        while from < old.size {
            let length = usize::try_from((old.size - from).min(PIECE as u64))?;
            file.read_exact_at(&mut piece[..length], from).with_context(reading)?;
            for block in piece[..length].chunks_exact(BLOCK) {
                self.put(block)?;
            }
            from += length as u64;
        }
        Ok(())
    }

    /// Puts a block everywhere where it belongs and is not.
    fn put(&mut self, block: &[u8]) -> Result<()> {
        for number in self.leaves.places(block) {
            if !self.there[number] {
                self.to.write(at(number), block)?;
                self.there[number] = true;
            }
        }
        Ok(())
    }

    /// Writes a stretch if all of it is right.
    fn take(&mut self, run: Run, bytes: &[u8]) -> Result<bool> {
        let first = usize::try_from(run.from)? / BLOCK;
        let mut numbered = (first..).zip(bytes.chunks_exact(BLOCK));
        if !numbered.all(|(number, block)| self.leaves.is(number, block)) {
            return Ok(false);
        }
        self.to.write(run.from, bytes)?;
        self.there[first..first + bytes.len() / BLOCK].fill(true);
        Ok(true)
    }

    fn lacks(&self) -> u64 {
        at(self.there.iter().filter(|there| !**there).count())
    }
}

/// Where the block of this number begins.
fn at(number: usize) -> u64 {
    number as u64 * BLOCK as u64
}
