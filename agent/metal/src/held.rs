//! The releases in the slots of this machine's disks, as udev describes them: nobody needs a right to a disk to see them. A
//! slot has its name once it was read back against the root's hash, and loses it before it is written to.

use std::path::PathBuf;

use anyhow::Result;
use trilith_core::boot::{ROOT_TYPE, RootHash};
use trilith_core::install::TREE;
use trilith_core::version::Version;

use crate::block::{Device, Devices};

/// A release in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its root's hash.
    pub root_hash: RootHash,
    /// The device with the root.
    pub root: PathBuf,
    /// The device with the root's hash tree.
    pub tree: PathBuf,
}

/// All of them.
///
/// # Errors
/// The kernel shows no devices.
pub fn all(devices: &Devices) -> Result<Vec<Held>> {
    let all = devices.all()?;
    let of_kind = |kind: &'static str| {
        let is_it = move |it: &&Device| it.property("ID_PART_ENTRY_TYPE") == Some(kind);
        all.iter().filter(is_it).filter(|it| release(it).is_some())
    };
    let pairs = of_kind(ROOT_TYPE).flat_map(|root| of_kind(TREE).map(move |tree| (root, tree)));
    Ok(pairs.filter_map(|(root, tree)| held(root, tree)).collect())
}

/// The release that a partition is called after.
fn release(device: &Device) -> Option<Version> {
    Version::of_label(&decoded(device.property("ID_PART_ENTRY_NAME")?)?)
}

/// A name as it is: udev has `\x7e` for `~` (`blkid_encode_string`, libblkid). `None`: it is no text.
fn decoded(name: &str) -> Option<String> {
    let mut parts = name.split("\\x");
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Both partitions of one slot. Two that do not belong together are called after another release, or make a hash that nobody
/// has heard of.
fn held(root: &Device, tree: &Device) -> Option<Held> {
    let disk = |device: &Device| device.property("ID_PART_ENTRY_DISK").map(str::to_owned);
    if disk(root) != disk(tree) || release(root) != release(tree) {
        return None;
    }
    let uuid = |device: &Device| device.property("ID_PART_ENTRY_UUID").map(str::to_lowercase);
    let root_hash = RootHash::of_partitions(&uuid(root)?, &uuid(tree)?)?;
    Some(Held { root_hash, root: root.path(), tree: tree.path() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    /// A device as kernel and udev have it.
    fn put(top: &Path, name: &str, number: &str, properties: &[(&str, &str)]) {
        let folder = top.join("devices").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(top.join("block")).unwrap();
        fs::create_dir_all(top.join("udev")).unwrap();
        fs::write(folder.join("dev"), format!("{number}\n")).unwrap();
        symlink(&folder, top.join("block").join(name)).unwrap();
        let lines =
            properties.iter().map(|(name, value)| format!("E:ID_PART_ENTRY_{name}={value}\n"));
        fs::write(top.join(format!("udev/b{number}")), lines.collect::<String>()).unwrap();
    }

    #[test]
    fn names_are_read_as_udev_writes_them() {
        assert_eq!(decoded("trilith_1.0").unwrap(), "trilith_1.0");
        assert_eq!(decoded(r"trilith_1.0\x7erc1").unwrap(), "trilith_1.0~rc1");
        assert_eq!(decoded(r"a\x5cb\x2f").unwrap(), r"a\b/");
        assert_eq!(decoded(r"half\x7"), None);
        assert_eq!(decoded(r"no\xff"), None);
    }

    #[test]
    fn only_slots_with_a_name_count() {
        let top = tempfile::tempdir().unwrap();
        let root_hash: RootHash = "0123456789abcdef".repeat(4).try_into().unwrap();
        let (data, tree) = (root_hash.data().to_uppercase(), root_hash.tree());
        let part = |name: &str, number: &str, label: &str, (kind, uuid): (&str, &str)| {
            let told = [("TYPE", kind), ("UUID", uuid), ("NAME", label), ("DISK", "8:0")];
            put(top.path(), name, number, &told);
        };
        put(top.path(), "sda", "8:0", &[]);
        part("sda2", "8:2", "trilith_1.0", (ROOT_TYPE, &data));
        part("sda3", "8:3", "trilith_1.0", (TREE, &tree));
        part("sda4", "8:4", "_empty", (ROOT_TYPE, &data));
        part("sda5", "8:5", "_empty", (TREE, &tree));
        part("sda6", "8:6", "trilith_1.0", ("c459012a-150e-4d1f-b99d-925b11cffa1e", &tree));
        let held = Held { root_hash, root: "/dev/sda2".into(), tree: "/dev/sda3".into() };
        assert_eq!(all(&Devices::at(top.path())).unwrap(), [held]);
    }
}
