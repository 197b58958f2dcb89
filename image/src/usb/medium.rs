//! What a medium is made of: pieces, each with its place. The release's disk image as it is, with another partition table
//! before and behind it, the first sectors of a disc, and a partition with the bundles.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::partition_types::{OperatingSystem, Type};
use trilith_core::boot::{CONFIG_LABEL, CONFIG_TYPE};
use uuid::Uuid;

use super::iso;

/// The sectors that the partition table counts in.
const SECTOR: u64 = 512;
/// Where partitions begin and end.
pub(super) const ALIGNMENT: u64 = 1 << 20;
/// Behind the last partition: the second table, on a boundary of everything that reads it.
const TAIL: u64 = ALIGNMENT;

/// Bytes and their place.
pub(super) struct Piece {
    /// Where they go, in bytes from the start.
    pub(super) at: u64,
    /// What they are.
    pub(super) content: Content,
}

/// What a piece is.
pub(super) enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes of the release's image, from the same place.
    Image(u64),
}

/// A release's disk image, and bundles for it.
pub(super) struct Medium {
    image: PathBuf,
    partitions: BTreeMap<u32, Partition>,
    /// Where the image's last partition ends, in bytes.
    end: u64,
    bundles: Vec<u8>,
}

impl Medium {
    /// A medium with the release of this image and these bundles, by name.
    pub(super) fn new(image: &Path, bundles: &[(String, String)]) -> Result<Self> {
        let reading = || format!("{} is no disk image of a release", image.display());
        let file = File::open(image).with_context(|| format!("cannot open {}", image.display()))?;
        let table = GptConfig::new().open_from_device(file).with_context(reading)?;
        let partitions = table.partitions().clone();
        let first = partitions.values().map(|it| it.first_lba).min().with_context(reading)?;
        let last = partitions.values().map(|it| it.last_lba).max().with_context(reading)?;
        ensure!(first * SECTOR >= ALIGNMENT, "{}: no room before its partitions", image.display());
        let end = ((last + 1) * SECTOR).next_multiple_of(ALIGNMENT);
        Ok(Self { image: image.to_owned(), partitions, end, bundles: archive(bundles)? })
    }

    /// The image that it is made from.
    pub(super) fn image(&self) -> &Path {
        &self.image
    }

    /// How large it is at least, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.end + self.config() + TAIL
    }

    fn config(&self) -> u64 {
        (self.bundles.len() as u64).next_multiple_of(ALIGNMENT)
    }

    /// All of it, on something of `size` bytes.
    pub(super) fn pieces(&self, size: u64) -> Result<Vec<Piece>> {
        let (head, tail) = self.tables(size)?;
        let mut bundles = self.bundles.clone();
        bundles.resize(usize::try_from(self.config())?, 0);
        Ok(vec![
            Piece { at: 0, content: Content::Bytes(head) },
            Piece { at: ALIGNMENT, content: Content::Image(self.end - ALIGNMENT) },
            Piece { at: self.end, content: Content::Bytes(bundles) },
            Piece { at: size - TAIL, content: Content::Bytes(tail) },
        ])
    }

    /// What comes before the first partition, and the end. Disk and ESP get UUIDs of their own: of two media in a server,
    /// the one that was booted must be told from the other. Root and hash tree keep theirs, which are the root's hash.
    fn tables(&self, size: u64) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut partitions = self.partitions.clone();
        for partition in
            partitions.values_mut().filter(|it| it.part_type_guid == gpt::partition_types::EFI)
        {
            partition.part_guid = Uuid::new_v4();
        }
        let number = partitions.keys().max().map_or(1, |last| last + 1);
        partitions.insert(number, self.config_partition()?);
        let esp = partitions.values().find(|it| it.part_type_guid == gpt::partition_types::EFI);
        let esp = esp.context("the image has no EFI system partition")?.first_lba * SECTOR;
        let mut ends = Ends::new(size);
        let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
        let mut table = config.create_from_device(&mut ends, Some(Uuid::new_v4()))?;
        table.update_partitions(partitions)?;
        table.write()?;
        let blocks = u32::try_from(size / SECTOR - 1).unwrap_or(u32::MAX);
        ProtectiveMBR::with_lb_size(blocks).overwrite_lba0(&mut ends)?;
        ends.seek(SeekFrom::Start(iso::OFFSET))?;
        let sectors = u32::try_from(self.size() / iso::SECTOR)?;
        ends.write_all(&iso::sectors(sectors, u32::try_from(esp / iso::SECTOR)?))?;
        Ok((ends.head, ends.tail))
    }

    fn config_partition(&self) -> Result<Partition> {
        Ok(Partition {
            part_type_guid: Type { guid: CONFIG_TYPE.parse()?, os: OperatingSystem::None },
            part_guid: Uuid::new_v4(),
            first_lba: self.end / SECTOR,
            last_lba: (self.end + self.config()) / SECTOR - 1,
            flags: 0,
            name: CONFIG_LABEL.to_owned(),
        })
    }
}

/// A tar file with the bundles; its owner's alone, wherever it is unpacked.
fn archive(bundles: &[(String, String)]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in bundles {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, text.as_bytes())?;
    }
    Ok(builder.into_inner()?)
}

/// A disk of which only the two ends are there: all that a partition table is.
#[derive(Debug)]
struct Ends {
    size: u64,
    position: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Ends {
    fn new(size: u64) -> Self {
        let end = || vec![0; 1 << 20];
        Self { size, position: 0, head: end(), tail: end() }
    }

    /// The end that holds `length` bytes from the position on, and goes behind them.
    fn part(&mut self, length: usize) -> io::Result<&mut [u8]> {
        let (at, behind) = (self.position, self.size - TAIL);
        let outside = || io::Error::other("between the two ends of the disk");
        let (end, at) =
            if at < behind { (&mut self.head, at) } else { (&mut self.tail, at - behind) };
        let at = usize::try_from(at).map_err(io::Error::other)?;
        self.position += length as u64;
        end.get_mut(at..at + length).ok_or_else(outside)
    }
}

impl Read for Ends {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.copy_from_slice(self.part(buffer.len())?);
        Ok(buffer.len())
    }
}

impl Write for Ends {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part(bytes.len())?.copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Ends {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = moved.ok_or_else(|| io::Error::other("before the start of the disk"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests;
