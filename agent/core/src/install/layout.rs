//! What an installed disk looks like: the partitions of overlays/install, in that order.

use serde::{Deserialize, Serialize};

use super::{Release, Slot};
use crate::boot::{ROOT_TYPE as ROOT, RootHash, VAR_TYPE};
use crate::version::{self, Version};

/// The label of a slot with nothing in it.
pub const EMPTY: &str = "_empty";

/// The smallest disk that has room, in bytes: the sum of overlays/install, and what the two tables take.
pub const LEAST: u64 = (2 << 30) + 2 * ((3 << 30) + (64 << 20)) + (16 << 30) + (2 << 20);

/// The type of an EFI system partition (UEFI 2.10, 5.3.3).
pub const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// The type of a root's hash tree (UAPI group, Discoverable Partitions Specification; x86-64).
pub const TREE: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";

/// A partition. UUIDs are in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its number in the table, from 1.
    pub number: u32,
    /// The UUID of its type.
    pub kind: String,
    /// Its own UUID.
    pub uuid: String,
    /// Its label.
    pub label: String,
}

/// The partitions of an installed disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The EFI system partition.
    pub esp: Part,
    /// Twice a root and its hash tree.
    pub slots: [(Part, Part); 2],
    /// /var.
    pub var: Part,
}

impl Layout {
    /// What these partitions of a disk are. `None`: not those of an installed disk.
    pub fn of(parts: &[Part]) -> Option<Self> {
        let [esp, a, a_tree, b, b_tree, var] = parts else { return None };
        let kinds = [esp, a, a_tree, b, b_tree, var].map(|part| part.kind.as_str());
        (kinds == [ESP, ROOT, TREE, ROOT, TREE, VAR_TYPE]).then(|| Self {
            esp: esp.clone(),
            slots: [(a.clone(), a_tree.clone()), (b.clone(), b_tree.clone())],
            var: var.clone(),
        })
    }

    /// The slot that has this release, whole: it got its names when it was read back.
    pub fn slot_of(&self, release: &Release) -> Option<Slot> {
        let Release { label, data, tree } = release;
        let has = |(root, hash): &(Part, Part)| {
            (&root.uuid, &hash.uuid) == (data, tree) && root.label == *label && hash.label == *label
        };
        self.slots.iter().position(has).map(Slot)
    }

    /// The slot that another release goes to, and whether it is free: else the older one.
    pub fn slot_to_use(&self) -> (Slot, bool) {
        let is_free = |slot: usize| is_free(&self.slots[slot]);
        match (is_free(0), is_free(1)) {
            (true, _) => (Slot(0), true),
            (false, true) => (Slot(1), true),
            (false, false) => {
                let label = |slot: usize| self.slots[slot].0.label.as_str();
                (Slot(usize::from(version::compare(label(1), label(0)).is_lt())), false)
            }
        }
    }

    /// The slot that this root is in.
    pub fn slot_running(&self, root: &RootHash) -> Option<Slot> {
        let is_it =
            |(data, tree): &(Part, Part)| data.uuid == root.data() && tree.uuid == root.tree();
        self.slots.iter().position(is_it).map(Slot)
    }

    /// The version of the release in a slot, if there is one.
    pub fn version(&self, slot: Slot) -> Option<Version> {
        let (root, tree) = self.slots.get(slot.0)?;
        Version::of_label(&root.label).filter(|_| root.label == tree.label)
    }

    /// Whether nothing that has a name is in a slot.
    pub fn is_free_slot(&self, slot: Slot) -> bool {
        self.slots.get(slot.0).is_some_and(is_free)
    }

    /// The roots that may still be started when this release is installed. A newer one may not: the boot loader would take
    /// it first.
    pub fn may_start(&self, release: &Release) -> Vec<RootHash> {
        let not_newer = |root: &Part| version::compare(&root.label, &release.label).is_le();
        let kept = self.slots.iter().filter(|(root, _)| not_newer(root));
        kept.filter_map(|(root, tree)| RootHash::of_partitions(&root.uuid, &tree.uuid)).collect()
    }

    /// Whether no release was ever put onto the disk to its end.
    pub fn is_free(&self) -> bool {
        self.slots.iter().all(is_free)
    }
}

/// Half a name is none: the two labels are written one after the other.
fn is_free((root, tree): &(Part, Part)) -> bool {
    root.label == EMPTY || tree.label == EMPTY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(labels: [&str; 2]) -> Vec<Part> {
        let kinds = [ESP, ROOT, TREE, ROOT, TREE, VAR_TYPE];
        let labels = ["esp", labels[0], labels[0], labels[1], labels[1], "var"];
        let part = |(number, (kind, label)): (u32, (&str, &str))| Part {
            number,
            kind: kind.into(),
            uuid: format!("{number}"),
            label: label.into(),
        };
        (1..).zip(kinds.into_iter().zip(labels)).map(part).collect()
    }

    #[test]
    fn only_all_partitions_in_order_are_an_installed_disk() {
        let mut all = parts([EMPTY, EMPTY]);
        assert!(Layout::of(&all).unwrap().is_free());
        assert_eq!(Layout::of(&all[..5]), None);
        all.swap(0, 5);
        assert_eq!(Layout::of(&all), None);
    }

    #[test]
    fn the_older_release_makes_room() {
        let uses = |a, b| Layout::of(&parts([a, b])).unwrap().slot_to_use();
        assert_eq!(uses(EMPTY, EMPTY), (Slot(0), true));
        assert_eq!(uses("trilith_1.9", EMPTY), (Slot(1), true));
        assert_eq!(uses("trilith_1.9", "trilith_1.10"), (Slot(0), false));
        assert_eq!(uses("trilith_1.10", "trilith_1.9"), (Slot(1), false));
        assert_eq!(uses("trilith_2", "trilith_2.1"), (Slot(0), false));
    }

    /// What is installed is what starts, also when it is the older one.
    #[test]
    fn a_newer_release_does_not_start_in_the_place_of_the_installed_one() {
        let mut all = parts(["trilith_1.9", "trilith_1.10"]);
        let (first, second) =
            ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9");
        for (part, uuid) in all[1..5].iter_mut().zip([first, first, second, second]) {
            part.uuid = uuid.into();
        }
        let layout = Layout::of(&all).unwrap();
        let kept = |slot: usize| {
            let label = layout.slots[slot].0.label.clone();
            layout.may_start(&Release { label, ..Release::default() }).len()
        };
        assert_eq!((kept(0), kept(1)), (1, 2));
    }

    #[test]
    fn a_release_is_there_by_all_its_names() {
        let mut all = parts(["trilith_1", EMPTY]);
        let release = Release { label: "trilith_1".into(), data: "2".into(), tree: "3".into() };
        let find = |all: &[Part]| Layout::of(all).unwrap().slot_of(&release);
        assert_eq!(find(&all), Some(Slot(0)));
        all[2].label = EMPTY.into();
        assert_eq!(find(&all), None);
        assert!(Layout::of(&all).unwrap().is_free());
    }

    /// The least is what overlays/install asks for.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test reads the definitions")]
    fn the_least_is_what_the_definitions_ask_for() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../overlays/install");
        let files = std::fs::read_dir(folder).unwrap();
        let size = |file: std::fs::DirEntry| {
            let text = std::fs::read_to_string(file.path()).unwrap();
            let size = text.lines().find_map(|line| line.strip_prefix("SizeMinBytes=")).unwrap();
            let (number, unit) = size.split_at(size.len() - 1);
            number.parse::<u64>().unwrap() << if unit == "G" { 30 } else { 20 }
        };
        let sum: u64 = files.map(|file| size(file.unwrap())).sum();
        assert_eq!(LEAST, sum + (2 << 20));
    }
}
