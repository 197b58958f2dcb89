use std::collections::BTreeMap;

use proptest::prelude::*;

use super::entries::{Desired, Entries, LOADERS, Observed, Step};
use super::*;
use crate::golden;
use crate::subject::Subject;

const UUID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

fn esp(uuid: &str) -> Partition {
    Partition { number: 1, start: 2048, size: 0x40_0000, uuid: uuid.parse().unwrap() }
}

fn own(number: usize, uuid: &str) -> LoadOption {
    let loader = LOADERS[(number + 1) % 2].to_owned();
    let path = vec![Node::Partition(esp(uuid)), Node::File(loader)];
    LoadOption { active: true, description: format!("Trilith {number}"), path }
}

/// As the specification lays it out, byte by byte.
#[test]
fn an_entry_is_these_bytes() {
    let mut option = own(2, UUID);
    option.path[1] = Node::File("\\a".into());
    option.description = "T".into();
    let expected = [
        &[1, 0, 0, 0, 56, 0, b'T', 0, 0, 0][..],
        &[4, 1, 42, 0, 1, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0],
        // The first three fields of the GUID with their last byte first.
        &[0x3d, 0x2c, 0x1b, 0x0a, 0x5f, 0x4e, 0x71, 0x60],
        &[0x82, 0x93, 0xa4, 0xb5, 0xc6, 0xd7, 0xe8, 0xf9, 2, 2],
        &[4, 4, 10, 0, b'\\', 0, b'a', 0, 0, 0],
        &[0x7f, 0xff, 4, 0],
    ]
    .concat();
    assert_eq!(option.write(), expected);
    assert_eq!(LoadOption::read(&expected), Some(option));
}

#[test]
fn what_is_cut_short_is_no_entry() {
    let whole = own(1, UUID).write();
    for length in 0..whole.len() {
        assert_eq!(LoadOption::read(&whole[..length]), None, "{length} bytes");
    }
    assert!(LoadOption::read(&[&whole[..], b"what it gives to the program"].concat()).is_some());
    // A node that says that it has no length would be read for ever.
    assert_eq!(LoadOption::read(&[1, 0, 0, 0, 4, 0, 0, 0, 4, 1, 0, 0]), None);
}

#[test]
fn guids_are_read_as_they_are_written() {
    assert_eq!(UUID.parse::<Guid>().unwrap().to_string(), UUID);
    assert_eq!(UUID.to_uppercase().parse::<Guid>().unwrap().to_string(), UUID);
    for wrong in ["", "0a1b2c3d", "0a1b2c3d4e5f60718293a4b5c6d7e8f9", "g".repeat(36).as_str()] {
        assert!(wrong.parse::<Guid>().is_err(), "{wrong}");
    }
}

#[test]
fn what_was_started_is_told_by_its_path() {
    let other = |kind, subtype| Node::Other { kind, subtype, data: vec![] };
    let (root, pci, sata) = (other(2, 1), other(1, 1), other(3, 18));
    let from = |path: Vec<Node>| {
        BootedFrom::of(&LoadOption { active: true, description: String::new(), path })
    };
    let card = || vec![root.clone(), pci.clone(), other(3, 11)];
    for behind in [vec![], vec![other(3, 12)], vec![other(3, 13), other(3, 24)]] {
        assert_eq!(from([card(), behind].concat()), BootedFrom::Network);
    }
    assert_eq!(from(own(1, UUID).path), BootedFrom::Partition(UUID.parse().unwrap()));
    assert_eq!(from(vec![root.clone(), pci.clone(), sata.clone()]), BootedFrom::Device);
    assert_eq!(from(vec![root, pci, sata, Node::Optical]), BootedFrom::Optical);
}

#[test]
fn plans() {
    golden::check::<Entries>("efi", 9);
}

/// What the firmware has after a step.
fn apply(observed: &mut Observed, step: Step) {
    match step {
        Step::Write(number, option) => {
            observed.entries.insert(number, Some(option));
        }
        Step::Order(order) => observed.order = order,
        Step::Next(number) => observed.next = Some(number),
        Step::Remove(number) => {
            observed.entries.remove(&number);
        }
    }
}

fn any_option() -> impl Strategy<Value = Option<LoadOption>> {
    let old = "ffffffff-4e5f-6071-8293-a4b5c6d7e8f9";
    prop_oneof![
        Just(None),
        (1_usize..7, prop_oneof![Just(UUID), Just(old)], any::<bool>())
            .prop_map(|(number, uuid, active)| Some(LoadOption { active, ..own(number, uuid) })),
        Just(Some(LoadOption { description: "UiApp".into(), ..own(1, old) })),
    ]
}

proptest! {
    /// Planned again on its own result there is nothing to do, and what was not the node's own is as it was.
    #[test]
    fn a_plan_leads_to_where_it_wants(
        entries in prop::collection::btree_map(0_u16..12, any_option(), 0..10),
        order in prop::collection::vec(0_u16..12, 0..12),
        next in prop::option::of(0_u16..12),
        wanted in any::<bool>(),
    ) {
        let before = Observed { entries, order, next };
        let desired = Desired { esp: esp(UUID), next: wanted };
        let mut after = before.clone();
        for step in Entries::plan(&desired, &before).steps {
            apply(&mut after, step);
        }
        prop_assert_eq!(Entries::plan(&desired, &after).steps, vec![]);
        let four: Vec<_> = after.order[..4].iter().map(|it| after.entries[it].clone()).collect();
        prop_assert_eq!(four, (1..=4).map(|it| Some(own(it, UUID))).collect::<Vec<_>>());
        let foreign = |all: &Observed| -> BTreeMap<_, _> {
            let is_own = |it: &Option<LoadOption>| it.as_ref().is_some_and(|it| it.description.starts_with("Trilith"));
            all.entries.clone().into_iter().filter(|(_, option)| !is_own(option)).collect()
        };
        prop_assert_eq!(foreign(&before), foreign(&after));
    }
}
