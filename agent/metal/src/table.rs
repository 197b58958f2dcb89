//! The partition table (GPT): what is in it, and other names in it.
//!
//! There are two copies. The one at the end of the disk is changed first, and is whole on the disk before the one at the
//! beginning is changed, in one write: whenever the power fails, one of them is right.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use trilith_core::install::{EMPTY, Layout, Part, Release, Slot};
use uuid::Uuid;

use crate::block::Device;

/// A partition table.
#[derive(Debug, Clone)]
pub struct Table {
    /// The disk's UUID in it.
    pub uuid: String,
    /// The partitions by their numbers.
    pub parts: Vec<Part>,
}

/// Reads it. `None`: there is none.
pub fn read(disk: &Device) -> Result<Option<Table>> {
    let path = disk.path();
    let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(parse(file, sector(disk)))
}

/// What a divided disk is divided into. `None`: it is not divided as an installed disk is.
pub fn layout(disk: &Device) -> Result<Option<Layout>> {
    Ok(read(disk)?.and_then(|table| Layout::of(&table.parts)))
}

/// Takes a slot's name, and the UUIDs by which a kernel would find what was in it.
pub fn empty(disk: &Device, slot: Slot) -> Result<()> {
    let new = || (EMPTY.to_owned(), Uuid::new_v4());
    rename(disk, slot, [new(), new()])
}

/// Gives a slot the names of a release.
pub fn name(disk: &Device, slot: Slot, release: &Release) -> Result<()> {
    let Release { label, data, tree } = release;
    rename(disk, slot, [(label.clone(), data.parse()?), (label.clone(), tree.parse()?)])
}

fn rename(disk: &Device, slot: Slot, names: [(String, Uuid); 2]) -> Result<()> {
    let path = disk.path();
    let layout = layout(disk)?.with_context(|| format!("{} is not divided", disk.name))?;
    let (root, tree) = &layout.slots[slot.0];
    let [root_name, tree_name] = names;
    let names = [(root.number, root_name), (tree.number, tree_name)];
    write(&path, sector(disk), names)
        .with_context(|| format!("cannot write the partition table of {}", path.display()))
}

/// The kernel's word for the disk's logical sectors; all that is no 4Kn disk has 512 bytes.
fn sector(disk: &Device) -> LogicalBlockSize {
    match disk.file("queue/logical_block_size").as_deref() {
        Some("4096") => LogicalBlockSize::Lb4096,
        _ => LogicalBlockSize::Lb512,
    }
}

fn parse(device: impl gpt::DiskDevice, sector: LogicalBlockSize) -> Option<Table> {
    // What is no table that can be read is none.
    let table = GptConfig::new().logical_block_size(sector).open_from_device(device).ok()?;
    let used = table.partitions().iter().filter(|(_, part)| part.is_used());
    let part = |(number, part): (&u32, &gpt::partition::Partition)| Part {
        number: *number,
        kind: part.part_type_guid.guid.to_string().to_lowercase(),
        uuid: part.part_guid.to_string(),
        label: part.name.clone(),
    };
    Some(Table { uuid: table.guid().to_string(), parts: used.map(part).collect() })
}

/// Gives partitions, by number, other labels and UUIDs.
fn write(path: &Path, sector: LogicalBlockSize, names: [(u32, (String, Uuid)); 2]) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let config = GptConfig::new().writable(true).logical_block_size(sector);
    let mut table = config.open_from_device(Later::new(&file)?)?;
    let mut partitions = table.partitions().clone();
    for (number, (label, uuid)) in names {
        let part = partitions.get_mut(&number).context("a partition is missing")?;
        (part.name, part.part_guid) = (label, uuid);
    }
    table.update_partitions(partitions)?;
    table.write()?.carry_out()
}

/// A disk that is written later, and reads as if it had been: the sums in a table's head are made from what is read.
#[derive(Debug)]
struct Later<'a> {
    file: &'a File,
    size: u64,
    position: u64,
    writes: Vec<(u64, Vec<u8>)>,
}

impl<'a> Later<'a> {
    fn new(mut file: &'a File) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size, position: 0, writes: Vec::new() })
    }

    /// Writes what was collected: the end of the disk, and then its beginning.
    fn carry_out(self) -> Result<()> {
        let (end, beginning): (Vec<_>, Vec<_>) =
            self.writes.into_iter().partition(|(at, _)| *at >= self.size / 2);
        for writes in [end, beginning] {
            let Some(from) = writes.iter().map(|(at, _)| *at).min() else { continue };
            let to = writes.iter().map(|(at, bytes)| at + bytes.len() as u64).max().unwrap_or(from);
            let mut bytes = vec![0; usize::try_from(to - from)?];
            self.file.read_exact_at(&mut bytes, from)?;
            for (at, part) in writes {
                let at = usize::try_from(at - from)?;
                bytes[at..at + part.len()].copy_from_slice(&part);
            }
            self.file.write_all_at(&bytes, from)?;
            self.file.sync_all()?;
        }
        Ok(())
    }
}

impl Read for Later<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.position)?;
        let begin = self.position;
        for (at, bytes) in &self.writes {
            let (from, to) =
                ((*at).max(begin), (at + bytes.len() as u64).min(begin + length as u64));
            if from < to {
                let offset =
                    |place: u64, base| usize::try_from(place - base).map_err(io::Error::other);
                let (source, target) = (offset(from, *at)?, offset(from, begin)?);
                let count = offset(to, from)?;
                buffer[target..target + count].copy_from_slice(&bytes[source..source + count]);
            }
        }
        self.position += length as u64;
        Ok(length)
    }
}

impl Write for Later<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes.push((self.position, bytes.to_vec()));
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Later<'_> {
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
