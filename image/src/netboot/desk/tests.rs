use trilith_core::names::MacAddr;
use trilith_core::netboot::proof;

use super::*;

const HOMELAB: &str = include_str!("../../../../tests/clusters/valid/homelab.yaml");

/// A desk of three nodes; the third is not served.
fn desk(rule: Rule, again: bool) -> Desk {
    let config = trilith_core::config::load(HOMELAB).unwrap();
    let id = |number: u16| NodeId::try_from(number).unwrap();
    Desk::new(&config, &[1, 2].map(id).into(), rule, again, BTreeMap::new())
}

fn asking(key: &str, nodes: &[u8]) -> Asking {
    let macs = nodes.iter().map(|node| MacAddr([0x52, 0x54, 0, 0, *node, 0])).collect();
    Asking { key: key.into(), macs, serial: None, uuid: None }
}

fn ask(desk: &mut Desk, key: &str, nodes: &[u8]) -> Verdict {
    desk.ask(asking(key, nodes), IpAddr::from([10, 9, 0, 7])).0
}

fn no(verdict: &Verdict, words: &str) {
    let (Verdict::No(reason) | Verdict::Unknown(reason)) = verdict else { panic!("{verdict:?}") };
    assert!(reason.contains(words), "{reason}");
}

#[test]
fn a_person_says_yes_to_a_key_and_to_no_other() {
    let mut desk = desk(Rule::Ask, false);
    assert_eq!(ask(&mut desk, "a", &[1]), Verdict::Wait);
    assert_eq!(ask(&mut desk, "b", &[1]), Verdict::Wait);
    assert!(desk.decide(1, true).contains("gets the bundle of node 1 (hv1)"));
    assert!(matches!(ask(&mut desk, "a", &[1]), Verdict::Give(_)));
    assert_eq!(ask(&mut desk, "b", &[1]), Verdict::Wait);
    desk.decide(2, false);
    no(&ask(&mut desk, "b", &[1]), "the operator said no");
    assert!(desk.decide(3, true).contains("nobody") && desk.decide(0, true).contains("nobody"));
}

#[test]
fn hardware_that_is_no_node_or_two_gets_nothing_whoever_says_yes() {
    let mut desk = desk(Rule::Auto, false);
    no(&ask(&mut desk, "a", &[9]), "no node's `match`");
    no(&ask(&mut desk, "b", &[1, 2]), "more than one node fits: 1 (hv1), 2 (hv2)");
    no(&ask(&mut desk, "c", &[3]), "`--nodes` leaves it out");
    assert!(desk.decide(1, true).contains("gets nothing"));
    no(&ask(&mut desk, "a", &[9]), "no node's `match`");
    assert!(matches!(ask(&mut desk, "d", &[2]), Verdict::Give(_)));
}

#[test]
fn a_nic_that_was_late_makes_a_machine_a_node_and_nothing_makes_it_another() {
    let mut desk = desk(Rule::Auto, false);
    no(&ask(&mut desk, "a", &[]), "no node's `match`");
    let mut news = |nodes: &[u8]| desk.ask(asking("a", nodes), IpAddr::from([10, 9, 0, 7]));
    assert!(!news(&[9]).1, "it is no node, as before");
    let (verdict, is_news) = news(&[9, 1]);
    assert!(matches!(verdict, Verdict::Give(id) if u16::from(id) == 1) && is_news);
    let (verdict, is_news) = news(&[2]);
    assert!(matches!(verdict, Verdict::Give(id) if u16::from(id) == 1) && !is_news);
    assert_eq!(desk.visits().len(), 1);
}

#[test]
fn who_has_reported_in_gets_nothing_more_unless_told_otherwise() {
    for again in [false, true] {
        let mut desk = desk(Rule::Auto, again);
        assert!(matches!(ask(&mut desk, "a", &[1]), Verdict::Give(_)));
        let report = |key: &str, bundle| Report { key: key.into(), proof: proof(bundle) };
        assert!(desk.report(&report("a", "a bundle")).is_err(), "it was not given yet");
        desk.gave("a", proof("a bundle"));
        assert!(desk.report(&report("a", "another")).is_err());
        assert!(desk.report(&report("b", "a bundle")).is_err());
        let (node, print) = desk.report(&report("a", "a bundle")).unwrap();
        assert_eq!((u16::from(node), print), (1, fingerprint("a")));
        let later = ask(&mut desk, "c", &[1]);
        // The one that asked before and would still get it is not asked about either.
        let stage = &desk.visits().last().unwrap().stage;
        assert_eq!(*stage, if again { Stage::Approved } else { Stage::Late });
        if again {
            assert!(matches!(later, Verdict::Give(_)));
        } else {
            no(&later, "has reported in");
        }
    }
}

#[test]
fn a_flood_of_keys_ends() {
    let mut desk = desk(Rule::Ask, false);
    for number in 0..MOST {
        ask(&mut desk, &number.to_string(), &[9]);
    }
    no(&ask(&mut desk, "one more", &[1]), "too many");
    assert_eq!(desk.visits().len(), MOST);
}
