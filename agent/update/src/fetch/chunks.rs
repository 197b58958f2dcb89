//! A part by chunks (bita): those that the older release has come from there, the others from the source. What is in its
//! place already, from a try before, is seen there and stays.

use std::fs::File as StdFile;
use std::pin::Pin;

use anyhow::{Context as _, Error, Result};
use bitar::archive_reader::ArchiveReader;
use bitar::{Archive, ArchiveError, Chunk, ChunkIndex, ChunkOffset, CloneOutput};
use futures_util::stream::{Stream, StreamExt as _};
use hyper::body::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use trilith_core::release::{Chunks, Part};

use super::{Fetch, Old, Place};
use crate::memory::Begun;
use crate::source::{Bad, Source};

/// The largest chunk that is taken: releases have smaller ones, and what an archive says of itself is not signed.
const LARGEST: u32 = 16 << 20;
/// How much is asked for at a time, if chunks lie one behind the other.
const RUN: usize = 4 << 20;

impl Fetch<'_> {
    pub(super) async fn chunks(
        &mut self,
        (name, part): (&str, &Part),
        chunks: &Chunks,
        to: &Place,
        old: &Old,
    ) -> Result<()> {
        let target = self.releases.target(&chunks.archive.target, chunks.archive.size)?.clone();
        let (source, path) = (self.source.clone(), target.path.clone());
        let reader = Reader { source, path, size: target.size };
        let mut archive = Archive::try_init(reader).await.map_err(told)?;
        let too_large = archive.chunk_descriptors().iter().any(|it| it.source_size > LARGEST);
        if archive.total_source_size() != part.size || too_large {
            return Err(Bad(format!("{} is of another part", target.path)).into());
        }
        let begun = Begun::Chunks { target: target.path };
        let before = self.memory.parts.get(name);
        let index = if before == Some(&begun) || before == Some(&Begun::Blocks) {
            lacking(&archive, to)?
        } else {
            archive.build_source_index()
        };
        self.memory.put(self.folder, name, begun)?;
        let file: StdFile = to.file.try_clone().context("cannot open the slot twice")?;
        let mut output = CloneOutput::new(File::from_std(file), index);
        self.seed(&archive, (part, old), &mut output).await?;
        let mut done = part.size.saturating_sub(bytes(output.chunks()));
        let wanted = output.chunks().clone();
        let mut stream = archive.chunk_stream(&wanted);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?.decompress();
            let chunk = chunk.map_err(|error| Bad(format!("a chunk is broken: {error}")))?;
            let chunk = chunk.verify();
            let chunk = chunk.map_err(|error| Bad(format!("a chunk was changed: {error}")))?;
            done += output.feed(&chunk).await.context("cannot write the slot")? as u64;
            self.tell(done, part)?;
        }
        drop(stream);
        let complete = output.is_empty();
        let mut file = output.into_inner();
        file.flush().await.context("cannot write the slot")?;
        if complete { Ok(()) } else { Err(Bad("the archive lacks chunks".into()).into()) }
    }

    /// Takes what the older release has.
    async fn seed(
        &self,
        archive: &Archive<Reader>,
        (part, old): (&Part, &Old),
        output: &mut CloneOutput<File>,
    ) -> Result<()> {
        let reading = || format!("cannot read {}", old.path.display());
        let file = File::open(&old.path).await.with_context(reading)?;
        let mut chunks = archive.chunker_config().new_chunker(file.take(old.size));
        let mut done = part.size.saturating_sub(bytes(output.chunks()));
        while !output.is_empty()
            && let Some(chunk) = chunks.next().await
        {
            let (_, chunk) = chunk.with_context(reading)?;
            let fed = output.feed(&chunk.verify()).await;
            done += fed.context("cannot write the slot")? as u64;
            self.tell(done, part)?;
        }
        Ok(())
    }
}

/// How much of a part lies in these chunks.
fn bytes(index: &ChunkIndex) -> u64 {
    let chunks = index.iter_chunks().map(|(_, it)| it.size() as u64 * it.offsets().len() as u64);
    chunks.sum()
}

/// The chunks that are not in their places.
fn lacking(archive: &Archive<Reader>, to: &Place) -> Result<ChunkIndex> {
    let mut index = ChunkIndex::new_empty(archive.chunk_hash_length());
    for (offset, chunk) in archive.iter_source_chunks() {
        let size = usize::try_from(chunk.source_size)?;
        let mut bytes = vec![0; size];
        // A file that is still to grow has no more.
        let read = to.read(offset, &mut bytes).is_ok();
        let (hash, _) = Chunk::from(bytes).verify().into_parts();
        if !read || hash.slice().get(..chunk.checksum.len()) != Some(chunk.checksum.slice()) {
            index.add_chunk(chunk.checksum.clone(), size, &[offset]);
        }
    }
    Ok(index)
}

fn told(error: ArchiveError<Error>) -> Error {
    match error {
        ArchiveError::ReaderError(error) => error,
        ArchiveError::InvalidArchive(error) => Bad(format!("it is no archive: {error}")).into(),
    }
}

/// An archive at its source.
#[derive(Debug, Clone)]
struct Reader {
    source: Source,
    path: String,
    size: u64,
}

#[tough::async_trait]
impl ArchiveReader for Reader {
    type Error = Error;

    async fn read_at<'a>(&'a mut self, offset: u64, size: usize) -> Result<Bytes> {
        if offset.checked_add(size as u64).is_none_or(|end| end > self.size) {
            return Err(Bad(format!("{} says of itself that it is longer", self.path)).into());
        }
        Ok(self.source.range(&self.path, offset, size as u64).await?.into())
    }

    fn read_chunks<'a>(
        &'a mut self,
        chunks: Vec<ChunkOffset>,
    ) -> Pin<Box<dyn Stream<Item = Result<Bytes>> + Send + 'a>> {
        let reader: &'a Self = self;
        let runs = futures_util::stream::iter(runs(chunks));
        Box::pin(runs.then(move |run| reader.run(run)).flat_map(futures_util::stream::iter))
    }
}

impl Reader {
    /// Chunks that lie one behind the other.
    async fn run(&self, run: Vec<ChunkOffset>) -> Vec<Result<Bytes>> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Vec::new() };
        let from = first.offset;
        match self.source.range(&self.path, from, last.end() - from).await {
            Err(error) => vec![Err(error)],
            Ok(bytes) => {
                let mut rest = Bytes::from(bytes);
                run.iter().map(|chunk| Ok(rest.split_to(chunk.size.min(rest.len())))).collect()
            }
        }
    }
}

/// Chunks in runs that are asked for at once.
fn runs(chunks: Vec<ChunkOffset>) -> Vec<Vec<ChunkOffset>> {
    let mut runs: Vec<Vec<ChunkOffset>> = Vec::new();
    let mut size = 0;
    for chunk in chunks {
        let follows =
            runs.last().and_then(|run| run.last()).is_some_and(|it| it.end() == chunk.offset);
        match runs.last_mut() {
            Some(run) if follows && size + chunk.size <= RUN => {
                size += chunk.size;
                run.push(chunk);
            }
            _ => {
                size = chunk.size;
                runs.push(vec![chunk]);
            }
        }
    }
    runs
}
