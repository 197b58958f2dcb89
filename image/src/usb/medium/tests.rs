use std::env;
use std::fs;

use super::*;

/// A disk image as `trilith build` divides it, small.
fn image() -> PathBuf {
    let path = env::temp_dir().join(format!("trilith-medium-{}", std::process::id()));
    let file = File::options().create(true).truncate(true).read(true).write(true).open(&path);
    let mut file = file.unwrap();
    file.set_len(8 << 20).unwrap();
    let mut table = GptConfig::new().writable(true).create_from_device(&mut file, None).unwrap();
    let part = |kind: Type, first_lba, last_lba, name: &str| Partition {
        part_type_guid: kind,
        part_guid: Uuid::new_v4(),
        first_lba,
        last_lba,
        flags: 1 << 60,
        name: name.into(),
    };
    let partitions = [
        (1, part(gpt::partition_types::EFI, 2048, 6143, "trilith-esp")),
        (2, part(gpt::partition_types::LINUX_FS, 6144, 10000, "trilith_1")),
    ];
    table.update_partitions(partitions.into()).unwrap();
    table.write().unwrap();
    file.seek(SeekFrom::Start(3 << 20)).unwrap();
    file.write_all(b"the root").unwrap();
    path
}

fn written(medium: &Medium, size: u64) -> Vec<u8> {
    let image = fs::read(medium.image()).unwrap();
    let mut bytes = vec![0xff; usize::try_from(size).unwrap()];
    for Piece { at, content } in medium.pieces(size).unwrap() {
        let at = usize::try_from(at).unwrap();
        let piece = match content {
            Content::Bytes(bytes) => bytes,
            Content::Image(length) => image[at..at + usize::try_from(length).unwrap()].to_vec(),
        };
        bytes[at..at + piece.len()].copy_from_slice(&piece);
    }
    bytes
}

#[test]
fn a_medium_is_a_disk_and_a_disc() {
    let image = image();
    let bundles = [("1.yaml".to_owned(), "one".to_owned()), ("2.yaml".into(), "two".into())];
    let medium = Medium::new(&image, &bundles).unwrap();
    // As a file, and on a larger stick.
    for size in [medium.size(), 64 << 20] {
        let bytes = written(&medium, size);
        let open = |bytes: Vec<u8>| {
            let config = GptConfig::new().only_valid_headers(true);
            config.open_from_device(io::Cursor::new(bytes)).unwrap()
        };
        let (before, after) = (open(fs::read(&image).unwrap()), open(bytes.clone()));
        assert_ne!(before.guid(), after.guid());
        let (before, after) = (before.partitions(), after.partitions());
        assert_ne!(before[&1].part_guid, after[&1].part_guid, "the ESP is another one");
        assert_eq!(before[&2], after[&2], "the root is the same");
        let config = &after[&3];
        assert_eq!(config.part_type_guid.guid.to_string(), CONFIG_TYPE);
        assert_eq!(config.name, CONFIG_LABEL);
        let (first, last) = (config.first_lba * 512, (config.last_lba + 1) * 512);
        let (first, last) = (usize::try_from(first).unwrap(), usize::try_from(last).unwrap());
        let mut archive = tar::Archive::new(&bytes[first..last]);
        let texts = archive.entries().unwrap().map(|entry| io::read_to_string(entry.unwrap()));
        assert_eq!(texts.collect::<io::Result<Vec<_>>>().unwrap(), ["one", "two"]);
        assert_eq!(&bytes[3 << 20..(3 << 20) + 8], b"the root");
        assert_eq!(&bytes[32769..32774], b"CD001");
        assert_eq!(bytes[510..512], [0x55, 0xaa]);
    }
    fs::remove_file(image).unwrap();
}

#[test]
fn what_is_no_image_is_refused() {
    let path = env::temp_dir().join(format!("trilith-no-image-{}", std::process::id()));
    fs::write(&path, vec![0; 4096]).unwrap();
    let error = Medium::new(&path, &[]).err().unwrap().to_string();
    fs::remove_file(&path).unwrap();
    assert!(error.ends_with("is no disk image of a release"), "{error}");
}
