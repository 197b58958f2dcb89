//! The root in chunks that are cut by what is in them, so that releases share most (bita).

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use bitar::api::compress::{CreateArchiveOptions, create_archive};
use bitar::archive_reader::IoReader;
use bitar::chunker::{Config, FilterBits, FilterConfig};
use bitar::{Archive, Compression, HashSum};
use tokio::fs::File;

/// The size of a chunk on average, in bytes. Smaller ones save little more, and each one costs its name.
const AVERAGE: u32 = 16 << 10;
const LEAST: usize = 4 << 10;
const MOST: usize = 256 << 10;
/// How many bytes of its digest a chunk is known by. What is made of them is checked against the root's hash.
const NAME: usize = 16;

/// How hard zstd works on a chunk. More gains little in so few bytes, and takes tables of many MiB for each.
const LEVEL: u32 = 3;

/// Writes an archive of all chunks of a part. It needs as much again in the folder for temporary files.
pub(super) async fn make(part: &Path, output: &Path) -> Result<()> {
    let open = || format!("cannot open {}", part.display());
    let input = File::open(part).await.with_context(open)?;
    let writing = || format!("cannot write {}", output.display());
    let mut archive = File::create(output).await.with_context(writing)?;
    let options = CreateArchiveOptions {
        chunker_config: Config::RollSum(FilterConfig {
            filter_bits: FilterBits::from_size(AVERAGE),
            min_chunk_size: LEAST,
            max_chunk_size: MOST,
            window_size: 64,
        }),
        chunk_hash_length: NAME,
        compression: Some(Compression::zstd(LEVEL)?),
        ..CreateArchiveOptions::default()
    };
    create_archive(input, &mut archive, &options).await.with_context(writing)?;
    archive.sync_all().await.with_context(writing)
}

/// How many bytes of an archive are fetched by who has the part that the other one was made from.
pub(super) async fn lacking(archive: &Path, old: &Path) -> Result<u64> {
    let (archive, old) = (read(archive).await?, read(old).await?);
    let there: HashSet<&HashSum> = old.chunk_descriptors().iter().map(|it| &it.checksum).collect();
    let missing = archive.chunk_descriptors().iter().filter(|it| !there.contains(&it.checksum));
    let missing: u64 = missing.map(|it| it.archive_size as u64).sum();
    Ok(archive.header_size() as u64 + missing)
}

async fn read(path: &Path) -> Result<Archive<IoReader<File>>> {
    let reading = || format!("cannot read the archive {}", path.display());
    let file = File::open(path).await.with_context(reading)?;
    Archive::try_init(IoReader::new(file)).await.with_context(reading)
}

#[cfg(test)]
mod tests {
    use bitar::CloneOutput;
    use futures_util::{StreamExt as _, TryStreamExt as _};

    use super::*;
    use crate::release::block_on;

    /// What a node does: the chunks that it has come from the old part, the others from the archive.
    async fn clone(archive: &Path, seed: &Path, output: &Path) -> Result<u64> {
        let mut archive = read(archive).await?;
        let file = File::options().create_new(true).write(true).open(output).await?;
        let mut output = CloneOutput::new(file, archive.build_source_index());
        let seed = File::open(seed).await?;
        let chunks = archive.chunker_config().new_chunker(seed);
        let mut chunks = chunks.map_ok(|(_, chunk)| chunk.verify());
        while let Some(chunk) = chunks.next().await {
            output.feed(&chunk?).await?;
        }
        let mut fetched = archive.header_size() as u64;
        let mut chunks = archive.chunk_stream(output.chunks());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            fetched += chunk.len() as u64;
            output.feed(&chunk.decompress()?.verify()?).await?;
        }
        Ok(fetched)
    }

    #[test]
    fn who_has_an_older_part_fetches_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut old = vec![0; 3 << 20];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut old).unwrap();
        let new = [&old[..1_000_000], b"something else", &old[1_000_010..]].concat();
        std::fs::write(at("old"), &old).unwrap();
        std::fs::write(at("new"), &new).unwrap();
        block_on(make(&at("old"), &at("old.cba"))).unwrap();
        block_on(make(&at("new"), &at("new.cba"))).unwrap();
        let lacking = block_on(lacking(&at("new.cba"), &at("old.cba"))).unwrap();
        let fetched = block_on(clone(&at("new.cba"), &at("old"), &at("made"))).unwrap();
        assert_eq!(std::fs::read(at("made")).unwrap(), new);
        assert_eq!(fetched, lacking);
        assert!(fetched < 300_000, "{fetched}");
    }
}
