//! Golden plans, and what is decided beside them.

use super::*;

#[test]
fn golden_plans() {
    crate::golden::check::<Peers>("peers", 16);
}

fn nodes(me: u16, count: u16) -> Nodes {
    let node = |id: u16| Node {
        id: id.try_into().unwrap(),
        name: NodeName::try_from(format!("n{id}")).unwrap(),
    };
    let others = (1..=count).filter(|id| *id != me).map(node).collect();
    Nodes { me: me.try_into().unwrap(), others }
}

fn asked(me: u16, count: u16) -> Vec<u16> {
    near(&nodes(me, count)).into_iter().map(|it| it.id.into()).collect()
}

#[test]
fn the_nearest_are_asked_and_some_far_ones() {
    assert_eq!(asked(2, 3), [3, 1]);
    assert_eq!(asked(13, 13).len(), 12);
    assert_eq!(asked(90, 100), [91, 92, 93, 94, 95, 96, 97, 3, 15, 39, 87]);
    assert_eq!(asked(1, 1), [0_u16; 0]);
}

/// Everybody is asked by somebody, and nobody by more than a dozen.
#[test]
fn the_work_is_spread() {
    let mut times = [0; 201];
    for me in 1..=200 {
        for other in asked(me, 200) {
            times[usize::from(other)] += 1;
        }
    }
    assert!(times[1..].iter().all(|it| (1..=NEAR).contains(it)), "{times:?}");
}

#[test]
fn what_lacks_comes_in_runs() {
    let run = |from, size| Run { from, size };
    let mut there = [true; 60];
    for lacks in [0, 1, 18, 36, 40] {
        there[lacks] = false;
    }
    assert_eq!(runs(&there, 10), [run(0, 190), run(360, 50)]);
    assert_eq!(runs(&[false; 3], LONGEST / 2), [run(0, LONGEST), run(LONGEST, LONGEST / 2)]);
    assert_eq!(runs(&[true], 10), []);
}

#[test]
fn ranges_are_read_as_they_are_written() {
    let run = Run { from: 4096, size: LONGEST };
    assert_eq!(run.header(), "bytes=4096-4198399");
    assert_eq!(Run::of_header(&run.header()), Some(run));
    for bad in
        ["bytes=0-4194304", "bytes=5-4", "bytes=5-", "bytes=-5", "bytes=0-18446744073709551615"]
    {
        assert_eq!(Run::of_header(bad), None, "{bad}");
    }
}

#[test]
fn who_comes_no_further_is_seen() {
    let Nodes { others, .. } = nodes(2, 2);
    let mut it = Neighbour::new(others[0].clone(), Shared::default());
    let root: RootHash = "a".repeat(64).try_into().unwrap();
    let says = |how_far: &str| Shared {
        fetching: Some(Fetching { root: root.clone(), how_far: how_far.into() }),
        ..Shared::default()
    };
    for (words, still) in [("1 %", 0), ("1 %", 1), ("1 %", 2), ("2 %", 0)] {
        it.says(says(words));
        assert_eq!(it.still, still);
    }
    it.says(Shared::default());
    it.says(Shared::default());
    assert_eq!(it.still, 0, "it fetches nothing");
}
