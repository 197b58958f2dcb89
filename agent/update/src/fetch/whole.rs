//! A part by all of it. What comes, compressed, lies behind the part's place in the slot until all of it is there and is what
//! was signed; so it is fetched once, however often that is interrupted. Without so much room it is decompressed as it comes,
//! and begun anew after an interruption.

use anyhow::Result;
use ring::digest::{Context, SHA256};
use trilith_core::release::{Download, Part};

use super::unpack::Unpack;
use super::{Fetch, PIECE, Place, sha256};
use crate::memory::Begun;
use crate::metadata::Target;
use crate::source::Bad;

/// After how many bytes it is remembered how many have come.
const REMEMBER: u64 = 4 << 20;
/// Where on a device something may begin.
const BLOCK: u64 = 4096;

impl Fetch<'_> {
    pub(super) async fn whole(
        &mut self,
        (name, part): (&str, &Part),
        whole: &Download,
        to: &Place,
    ) -> Result<()> {
        let target = self.releases.target(&whole.target, whole.size)?.clone();
        let behind = part.size.next_multiple_of(BLOCK);
        if behind.checked_add(whole.size).is_none_or(|end| end > to.room) {
            return self.stream(part, &target, to).await;
        }
        self.collect((name, part), &target, to, behind).await?;
        let mut unpack = Unpack::new(to, part.size)?;
        let (mut at, mut piece) = (0, vec![0; PIECE]);
        while at < target.size {
            let length = usize::try_from((target.size - at).min(PIECE as u64))?;
            to.read(behind + at, &mut piece[..length])?;
            unpack.add(&piece[..length])?;
            at += length as u64;
        }
        Ok(unpack.finish()?)
    }

    /// Everything comes behind the part's place.
    async fn collect(
        &mut self,
        (name, part): (&str, &Part),
        target: &Target,
        to: &Place,
        behind: u64,
    ) -> Result<()> {
        let mut come = match self.memory.parts.get(name) {
            Some(Begun::Whole { target: begun, come }) if *begun == target.path => {
                (*come).min(target.size)
            }
            _ => 0,
        };
        let mut kept = come;
        let source = self.source;
        let mut stretch = source.stretch(&target.path, come, target.size - come);
        while let Some(bytes) = stretch.next().await? {
            to.write(behind + come, &bytes)?;
            come += bytes.len() as u64;
            if come - kept >= REMEMBER || come == target.size {
                to.sync()?;
                kept = come;
                let begun = Begun::Whole { target: target.path.clone(), come };
                self.memory.put(self.folder, name, begun)?;
            }
            self.tell(scaled(come, target.size, part.size), part)?;
        }
        if to.sha256(behind, target.size)?.as_ref() == Some(&target.sha256) {
            return Ok(());
        }
        Err(Bad(format!("{} is not what was signed", target.path)).into())
    }

    async fn stream(&self, part: &Part, target: &Target, to: &Place) -> Result<()> {
        let (mut unpack, mut context) = (Unpack::new(to, part.size)?, Context::new(&SHA256));
        let mut stretch = self.source.stretch(&target.path, 0, target.size);
        while let Some(bytes) = stretch.next().await? {
            context.update(&bytes);
            let done = unpack.add(&bytes)?;
            self.tell(done, part)?;
        }
        if sha256(context)? != target.sha256 {
            return Err(Bad(format!("{} is not what was signed", target.path)).into());
        }
        Ok(unpack.finish()?)
    }
}

/// So much of `of` as `come` is of `size`.
fn scaled(come: u64, size: u64, of: u64) -> u64 {
    let scaled = u128::from(come) * u128::from(of) / u128::from(size.max(1));
    u64::try_from(scaled).unwrap_or(of)
}
