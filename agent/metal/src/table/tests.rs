//! Tables on files, with sectors of both sizes.

use gpt::partition_types::{EFI, LINUX_FS};

use super::*;

fn disk(sector: LogicalBlockSize) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 20).unwrap();
    let config = GptConfig::new().writable(true).logical_block_size(sector);
    let mut table = config.create_from_device(file.reopen().unwrap(), None).unwrap();
    for (name, kind) in [("esp", EFI), ("a", LINUX_FS), ("b", LINUX_FS)] {
        table.add_partition(name, 1 << 20, kind, 0, None).unwrap();
    }
    table.write().unwrap();
    file
}

fn labels(path: &Path, sector: LogicalBlockSize) -> Vec<String> {
    let table = parse(File::open(path).unwrap(), sector).unwrap();
    table.parts.into_iter().map(|part| part.label).collect()
}

fn names() -> [(u32, (String, Uuid)); 2] {
    [(2, ("x".into(), Uuid::from_u128(7))), (3, ("y".into(), Uuid::from_u128(8)))]
}

/// CRC-32 as the tables have it (UEFI 2.10, 5.3.2).
fn crc(bytes: &[u8]) -> u32 {
    let step = |sum: u32| (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1));
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum)))
}

/// Whether the copy of the table whose head is in this sector is whole, as kernel and firmware judge it; and the first
/// letters of its second partition's label. The crate looks at less.
fn judge(disk: &[u8], head: usize, sector: usize) -> Option<u8> {
    let head = &disk[head * sector..(head + 1) * sector];
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
    let mut zeroed = head[..number(12) as usize].to_vec();
    zeroed[16..20].fill(0);
    let begin = number(72) as usize * sector;
    let entries = &disk[begin..begin + (number(80) * number(84)) as usize];
    let whole =
        &head[..8] == b"EFI PART" && crc(&zeroed) == number(16) && crc(entries) == number(88);
    whole.then(|| entries[128 + 56])
}

#[test]
fn names_change_and_nothing_else() {
    for (sector, size) in [(LogicalBlockSize::Lb512, 512), (LogicalBlockSize::Lb4096, 4096)] {
        let file = disk(sector);
        let before = parse(file.reopen().unwrap(), sector).unwrap();
        write(file.path(), sector, names()).unwrap();
        let after = parse(file.reopen().unwrap(), sector).unwrap();
        assert_eq!(after.uuid, before.uuid);
        assert_eq!(after.parts[0], before.parts[0]);
        assert_eq!(after.parts[1].kind, before.parts[1].kind);
        assert_eq!(after.parts[1].uuid, Uuid::from_u128(7).to_string());
        assert_eq!(labels(file.path(), sector), ["esp", "x", "y"]);
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(judge(&bytes, 1, size), Some(b'x'));
        assert_eq!(judge(&bytes, bytes.len() / size - 1, size), Some(b'x'));
    }
}

/// The power fails after any of the writes, or in the middle of one: one of the two is whole, the first if it can be.
#[test]
fn a_power_cut_leaves_a_table_that_is_right() {
    let sector = LogicalBlockSize::Lb512;
    let (file, new) = (disk(sector), disk(sector));
    let old = std::fs::read(file.path()).unwrap();
    std::fs::write(new.path(), &old).unwrap();
    write(new.path(), sector, names()).unwrap();
    let new = std::fs::read(new.path()).unwrap();
    let (half, last) = (old.len() / 2, old.len() / 512 - 1);
    let differ = |range: std::ops::Range<usize>| range.filter(|at| old[*at] != new[*at]);
    // First the end, then the beginning, byte by byte.
    let order: Vec<usize> = differ(half..old.len()).chain(differ(0..half)).collect();
    assert!(order.len() > 20);
    let mut now = old.clone();
    for at in order {
        now[at] = new[at];
        match (judge(&now, 1, 512), judge(&now, last, 512)) {
            (Some(b'a'), _) | (None | Some(b'x'), Some(b'x')) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_no_table_is_none() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    assert!(parse(file.reopen().unwrap(), LogicalBlockSize::Lb512).is_none());
}
