//! The UUIDs of OSDs: they follow from the disk, so that Ceph's map, which knows the UUID of every OSD, tells what
//! was made on a disk though nothing of it can be read any more.
//!
//! A mark is a UUID without its last two digits, which count the OSDs that were made on the disk one after the other.

use std::fmt::Write as _;

use ring::digest::{Context, SHA256};

use super::{Block, Desired};

/// The marks of a disk: by its serial number, and by each name by ID. New OSDs get the first one; the map is searched
/// for all, since names come and go with versions of udev. A disk that has none of these names has no mark.
pub(super) fn marks(desired: &Desired, disk: &Block) -> Vec<String> {
    let names = disk.serial.iter().chain(&disk.ids);
    names.map(|name| mark(&desired.cluster, desired.node, name)).collect()
}

/// The length of a mark.
const LENGTH: usize = 34;

/// Whether two OSDs with these UUIDs were made on one disk, which so can carry only one of them.
pub(crate) fn of_one_disk(one: &str, other: &str) -> bool {
    let mark = |uuid: &str| uuid.get(..LENGTH).map(str::to_owned);
    // Only those that follow from a disk say anything: of a version that nobody makes by chance.
    one != other && one.as_bytes().get(14) == Some(&b'8') && mark(one) == mark(other)
}

/// One mark. With the node's ID, since a name need not be the only one of its kind in the cluster.
fn mark(cluster: &str, node: u16, name: &str) -> String {
    let mut hash = Context::new(&SHA256);
    for part in [cluster, &node.to_string(), name] {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    let mut hex = String::new();
    for byte in &hash.finish().as_ref()[..15] {
        // A string can always be written to.
        let _ = write!(hex, "{byte:02x}");
    }
    // Version and variant of a UUID that anybody may make in his own way (RFC 9562, 5.8).
    let part = |from: usize, to: usize| &hex[from..to];
    let (head, tail) = (format!("{}-{}", part(0, 8), part(8, 12)), part(20, 30));
    format!("{head}-8{}-8{}-{tail}", part(13, 16), part(17, 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_uuid_but_for_two_digits_and_of_one_disk_of_one_node() {
        let one = mark("F", 1, "SA");
        assert_eq!(one.len(), LENGTH);
        let lengths: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 10]);
        for other in [mark("G", 1, "SA"), mark("F", 2, "SA"), mark("F", 1, "SB")] {
            assert_ne!(one, other);
        }
        assert_eq!(one, mark("F", 1, "SA"));
        assert!(of_one_disk(&format!("{one}00"), &format!("{one}01")));
        assert!(!of_one_disk(&format!("{one}00"), &format!("{one}00")));
        assert!(!of_one_disk(&format!("{one}00"), &format!("{}00", mark("F", 2, "SA"))));
        assert!(!of_one_disk("", "0"));
    }
}
