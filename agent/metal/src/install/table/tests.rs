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

#[test]
fn names_change_and_nothing_else() {
    for sector in [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096] {
        let file = disk(sector);
        let before = parse(file.reopen().unwrap(), sector).unwrap();
        write(file.path(), sector, names()).unwrap();
        let after = parse(file.reopen().unwrap(), sector).unwrap();
        assert_eq!(after.uuid, before.uuid);
        assert_eq!(after.parts[0], before.parts[0]);
        assert_eq!(after.parts[1].kind, before.parts[1].kind);
        assert_eq!(after.parts[1].uuid, Uuid::from_u128(7).to_string());
        assert_eq!(labels(file.path(), sector), ["esp", "x", "y"]);
    }
}

/// The power fails after any of the writes, or in the middle of one: the table is the one before or the one after.
#[test]
fn a_power_cut_leaves_a_table_that_is_right() {
    let sector = LogicalBlockSize::Lb512;
    let (file, new) = (disk(sector), disk(sector));
    let old = std::fs::read(file.path()).unwrap();
    std::fs::write(new.path(), &old).unwrap();
    write(new.path(), sector, names()).unwrap();
    let new = std::fs::read(new.path()).unwrap();
    let half = old.len() / 2;
    let differ = |range: std::ops::Range<usize>| range.filter(|at| old[*at] != new[*at]);
    // First the end, then the beginning, byte by byte.
    let order: Vec<usize> = differ(half..old.len()).chain(differ(0..half)).collect();
    assert!(order.len() > 20);
    let mut now = old.clone();
    for at in order {
        now[at] = new[at];
        std::fs::write(file.path(), &now).unwrap();
        let labels = labels(file.path(), sector);
        assert!(labels == ["esp", "a", "b"] || labels == ["esp", "x", "y"], "{labels:?}");
    }
}

#[test]
fn what_is_no_table_is_none() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    assert!(parse(file.reopen().unwrap(), LogicalBlockSize::Lb512).is_none());
}
