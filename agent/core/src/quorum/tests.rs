//! Form or join, every row.

use super::*;

fn id(number: u16) -> NodeId {
    NodeId::try_from(number).unwrap()
}

fn members(count: u16) -> BTreeMap<NodeId, NodeName> {
    (1..=count)
        .map(|number| (id(number), NodeName::try_from(format!("node{number}")).unwrap()))
        .collect()
}

/// One letter for each other coordinator: empty, founding, present, foreign, not looked yet, silent.
fn others(letters: &str) -> Others {
    let says = |data: Option<Data>| Witness::Says(Box::new(Details { data, ..Details::default() }));
    let witness = |letter: char| match letter {
        'e' => says(Some(Data::Empty)),
        'f' => says(Some(Data::Founding)),
        'p' => says(Some(Data::Present { cluster: "c".into() })),
        'x' => says(Some(Data::Foreign { reason: "it belongs to server 9".into() })),
        '?' => says(None),
        _ => Witness::Silent("no route".into()),
    };
    (2..).map(id).zip(letters.chars().map(witness)).collect()
}

fn decision(letters: &str) -> Decision {
    let count = u16::try_from(letters.len() + 1).unwrap();
    decide(&members(count), id(1), &others(letters))
}

#[test]
fn founds_only_if_all_hold_nothing() {
    for all in ["", "ee", "ef", "ff", "eeee", "eeff"] {
        assert_eq!(decision(all), Decision::Form, "{all:?}");
    }
}

#[test]
fn joins_only_a_majority() {
    for enough in ["pp", "pppp", "pppe", "ppp-", "pppx"] {
        assert_eq!(decision(enough), Decision::Join, "{enough:?}");
    }
}

/// Neither founding nor joining, with a reason for each that stands in the way.
#[test]
fn else_waits() {
    for (letters, reasons) in
        [("e-", 1), ("--", 2), ("ex", 1), ("e?", 1), ("pe", 1), ("p-", 2), ("ppe-", 2), ("eee-", 1)]
    {
        match decision(letters) {
            Decision::Wait(given) => assert_eq!(given.len(), reasons, "{letters:?}: {given:?}"),
            other => panic!("{letters:?}: {other:?}"),
        }
    }
}

#[test]
fn one_that_was_never_asked_is_silent() {
    assert!(matches!(decide(&members(3), id(1), &others("e")), Decision::Wait(_)));
}

#[test]
fn a_lost_majority_is_named() {
    let Decision::Wait(reasons) = decision("pe") else { panic!() };
    assert!(reasons[0].reason.contains("a majority is lost"), "{reasons:?}");
    let Decision::Wait(reasons) = decision("p-") else { panic!() };
    assert!(!reasons[0].reason.contains("a majority is lost"), "{reasons:?}");
}
