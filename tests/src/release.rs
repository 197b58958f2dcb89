//! A release in small: a disk with a GPT, a root of three hundred blocks with its hash tree's superblock, and a UKI with
//! nothing in it but the command line. What fetches, serves and checks a release cannot tell it from a real one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types;
use uuid::Uuid;

/// Its name.
pub const NAME: &str = "trilith_1.0-1";

/// What `veritysetup format --salt=0102030405060708` says of [`BLOCKS`] blocks that are each full of one byte.
pub const ROOT_HASH: &str = "151bd5cdee65c091ae84009f71f0c6c64f71c12b967859af8700af5722714220";

const BLOCKS: u64 = 300;
const BLOCK: usize = 4096;
const SECTOR: u64 = 512;

/// Writes it into a folder, and gives its disk.
pub fn small(folder: &Path) -> Result<Vec<u8>> {
    let at = |ending: &str| folder.join(format!("{NAME}.{ending}"));
    let command_line = format!("root=/dev/mapper/root ro roothash={ROOT_HASH} panic=10");
    fs::write(at("efi"), uki(command_line.as_bytes())?)?;
    disk(&at("raw"))?;
    let disk = fs::read(at("raw"))?;
    fs::write(at("raw.zst"), zstd::encode_all(disk.as_slice(), 3)?)?;
    Ok(disk)
}

/// A disk of 8 MiB: ESP with a little in it, root, hash tree.
fn disk(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let size = 8 << 20;
    file.set_len(size)?;
    let sectors = u32::try_from(size / SECTOR - 1)?;
    ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(&mut file)?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut disk = config.create(path)?;
    disk.update_partitions(BTreeMap::new())?;
    let mut add = |name: &str, size: u64, uuid: Option<Uuid>| -> Result<u64> {
        let id = disk.add_partition(name, size, partition_types::LINUX_FS, 0, Some(2048))?;
        let mut partitions = disk.partitions().clone();
        let partition = partitions.get_mut(&id).context("no partition")?;
        partition.part_guid = uuid.unwrap_or(partition.part_guid);
        let start = partition.first_lba * SECTOR;
        disk.update_partitions(partitions)?;
        Ok(start)
    };
    let esp = add("esp", 1 << 20, None)?;
    let data = add("root", BLOCKS * BLOCK as u64, Some(Uuid::try_parse(&ROOT_HASH[..32])?))?;
    let tree = add("tree", 1 << 20, Some(Uuid::try_parse(&ROOT_HASH[32..])?))?;
    disk.write()?;
    file.write_all_at(b"the loader", esp + 5000)?;
    for number in 0..BLOCKS {
        let block = vec![u8::try_from(number % 251)?; BLOCK];
        file.write_all_at(&block, data + number * BLOCK as u64)?;
    }
    file.write_all_at(&superblock(), tree)?;
    Ok(())
}

fn superblock() -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[..8].copy_from_slice(b"verity\0\0");
    (bytes[8], bytes[12]) = (1, 1);
    bytes[32..38].copy_from_slice(b"sha256");
    (bytes[65], bytes[69]) = (16, 16);
    bytes[72..80].copy_from_slice(&BLOCKS.to_le_bytes());
    bytes[80] = 8;
    bytes[88..96].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    bytes
}

/// A program for UEFI on x86-64 with one section, `.cmdline` (PE/COFF: DOS header, signature, file header, optional
/// header, section table).
fn uki(command_line: &[u8]) -> Result<Vec<u8>> {
    const TEXT: u32 = 0x200;
    let length = u32::try_from(command_line.len())?;
    let mut bytes = vec![0; 0x40];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes.extend(b"PE\0\0");
    // Machine, sections, size of the optional header, characteristics.
    bytes.extend([0x64, 0x86, 1, 0]);
    bytes.extend([0; 12]);
    bytes.extend([240, 0, 0x22, 0]);
    // The optional header: PE32+, sixteen empty data directories, all else zero.
    let mut optional = vec![0; 240];
    optional[..2].copy_from_slice(&[0x0b, 0x02]);
    optional[108] = 16;
    bytes.extend(optional);
    bytes.extend(b".cmdline");
    for word in [length, 0x1000, length, TEXT, 0, 0, 0, 0x4000_0040] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(TEXT as usize, 0);
    bytes.extend(command_line);
    Ok(bytes)
}
