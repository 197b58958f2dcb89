//! Parts of a release, each by the way that fetches the fewest bytes, written where it is to be. Whatever is interrupted goes
//! on where it was: nothing that has come is fetched again, but for the piece that was just coming.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ring::digest::{Context, SHA256};
use trilith_core::boot::RootHash;
use trilith_core::names::Sha256;
use trilith_core::release::{Part, Way, cheapest};

mod chunks; // by the chunks that are not there
mod delta; // by what differs
mod leaves; // the hash of each block of a root
mod neighbours; // from other nodes, before the source
#[cfg(test)]
mod tests;
mod unpack; // what zstd makes of a stream
mod whole; // by all of it

use crate::memory::{Begun, Memory};
use crate::metadata::{Releases, hex};
use crate::source::{Bad, NoRanges, NotThere, Source};

pub(crate) use neighbours::Neighbours;

/// How much is read at a time.
const PIECE: usize = 1 << 20;

/// A fetch of one release.
pub(crate) struct Fetch<'a> {
    /// Where from.
    pub(crate) source: &'a Source,
    /// What the source has.
    pub(crate) releases: &'a Releases,
    /// Who is asked before that.
    pub(crate) neighbours: Option<Neighbours<'a>>,
    /// Where it is remembered how far it has come.
    pub(crate) folder: &'a Path,
    /// How far that is.
    pub(crate) memory: Memory,
    /// Is told how many bytes of the part are there, of how many; an error ends the fetch.
    pub(crate) tell: &'a dyn Fn(u64, u64) -> Result<()>,
}

/// Where a part goes.
pub(crate) struct Place {
    file: File,
    /// What people know it by.
    name: String,
    /// How many bytes there is room for.
    room: u64,
}

/// The same part of a release that is there, whole and unchanged.
#[derive(Debug, Clone)]
pub(crate) struct Old {
    /// The release.
    pub(crate) root_hash: RootHash,
    /// Where the part is.
    pub(crate) path: PathBuf,
    /// How many bytes it has.
    pub(crate) size: u64,
}

impl Place {
    /// A device.
    pub(crate) fn device(path: &Path, room: u64) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { file, name: path.display().to_string(), room })
    }

    /// A file, which is made if it is not there, and grows.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { file, name: path.display().to_string(), room: u64::MAX })
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(bytes, at).with_context(|| format!("cannot read {}", self.name))
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, at).with_context(|| format!("cannot write {}", self.name))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| format!("cannot write {}", self.name))
    }

    /// The SHA-256 of a stretch; `None`: there is not so much.
    fn sha256(&self, at: u64, size: u64) -> Result<Option<Sha256>> {
        let (mut context, mut piece) = (Context::new(&SHA256), vec![0; PIECE]);
        let mut done = 0;
        while done < size {
            let length = usize::try_from((size - done).min(PIECE as u64))?;
            match self.file.read_exact_at(&mut piece[..length], at + done) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read.with_context(|| format!("cannot read {}", self.name))?,
            }
            context.update(&piece[..length]);
            done += length as u64;
        }
        Ok(Some(sha256(context)?))
    }
}

fn sha256(context: Context) -> Result<Sha256> {
    Ok(Sha256::try_from(hex(context.finish().as_ref()))?)
}

/// Whether it is no use to go on this way.
fn is_the_end(error: &anyhow::Error) -> bool {
    error.is::<Bad>() || error.is::<NotThere>() || error.is::<NoRanges>()
}

fn is_there(part: &Part, to: &Place) -> Result<bool> {
    Ok(to.sha256(0, part.size)?.as_ref() == Some(&part.sha256))
}

impl Fetch<'_> {
    /// Brings a part to its place. `old`: the same part of a release that is there.
    pub(crate) async fn part(
        &mut self,
        name: &str,
        part: &Part,
        to: &Place,
        old: Option<&Old>,
    ) -> Result<()> {
        ensure!(part.size <= to.room, "{} has no room for {} bytes", to.name, part.size);
        if self.memory.parts.get(name) == Some(&Begun::Done) && is_there(part, to)? {
            return Ok(());
        }
        let lacks = match self.by_neighbours((name, part), to, old).await {
            Err(error) if error.is::<Bad>() => {
                eprintln!("{name}: nothing comes from other nodes: {error:#}");
                None
            }
            lacks => lacks.with_context(|| format!("cannot fetch the {name}"))?,
        };
        if lacks == Some(0) {
            to.sync()?;
            if is_there(part, to)? {
                return self.memory.put(self.folder, name, Begun::Done);
            }
        }
        self.by_source((name, part), lacks, to, old).await
    }

    /// By the cheapest way that leads there. `lacks`: how many bytes are not there yet, if that is known.
    async fn by_source(
        &mut self,
        (name, part): (&str, &Part),
        lacks: Option<u64>,
        to: &Place,
        old: Option<&Old>,
    ) -> Result<()> {
        let have: Vec<RootHash> = old.iter().map(|old| old.root_hash.clone()).collect();
        let mut last = None;
        for way in cheapest(part, &have, lacks) {
            eprintln!("{name}: {way}");
            match self.by(way, (name, part), to, old).await {
                Ok(()) => return self.memory.put(self.folder, name, Begun::Done),
                Err(error) if is_the_end(&error) => {
                    eprintln!("{name}: this way leads nowhere: {error:#}");
                    // On the disk as well: else what came wrong once would be looked at again for ever.
                    self.memory.lose(self.folder, name)?;
                    last = Some(error);
                }
                Err(error) => return Err(error.context(format!("cannot fetch the {name}"))),
            }
        }
        Err(last.context("there is no way to it")?.context(format!("cannot fetch the {name}")))
    }

    async fn by(
        &mut self,
        way: Way<'_>,
        (name, part): (&str, &Part),
        to: &Place,
        old: Option<&Old>,
    ) -> Result<()> {
        let old = || old.context("there is no older release");
        match way {
            Way::Delta(delta) => self.delta((name, part), delta, to, old()?).await?,
            Way::Chunks(chunks, _) => self.chunks((name, part), chunks, to, old()?).await?,
            Way::Whole(whole) => self.whole((name, part), whole, to).await?,
        }
        to.sync()?;
        if is_there(part, to)? {
            return Ok(());
        }
        Err(Bad("what was made of it is not what was signed".into()).into())
    }

    fn tell(&self, done: u64, part: &Part) -> Result<()> {
        (self.tell)(done, part.size)
    }
}
