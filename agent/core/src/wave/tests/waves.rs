//! Waves in the small world, disturbed in all ways, and what holds of them all the same.

use proptest::prelude::*;

use super::world::{ALL, COORDINATORS, NEW, OLD, World, id};
use super::*;

#[derive(Debug, Clone)]
enum Event {
    Decide(u16),
    Act(u16),
    Start(u16),
    Judge(u16),
    Update(u16, bool),
    Crash(u16),
    See(u16, bool),
    LoseSession(u16),
    Wait(u64),
    PowerCut,
    Say(Command),
}

fn event() -> impl Strategy<Value = Event> {
    let node = 1..=ALL;
    let said = prop_oneof![
        Just(Command::Pause),
        Just(Command::Resume),
        Just(Command::Resume),
        Just(Command::Abort),
        any::<bool>().prop_map(|again| upgrade(NEW, again)),
    ];
    prop_oneof![
        20 => node.clone().prop_map(Event::Decide),
        20 => node.clone().prop_map(Event::Act),
        8 => node.clone().prop_map(Event::Start),
        6 => node.clone().prop_map(Event::Judge),
        12 => (node.clone(), any::<bool>()).prop_map(|(n, late)| Event::Update(n, late)),
        1 => node.clone().prop_map(Event::Crash),
        2 => (node.clone(), any::<bool>()).prop_map(|(n, sees)| Event::See(n, sees)),
        1 => node.prop_map(Event::LoseSession),
        2 => (0_u64..400).prop_map(Event::Wait),
        1 => Just(Event::PowerCut),
        1 => said.prop_map(Event::Say),
    ]
}

fn happen(world: &mut World, event: Event) {
    match event {
        Event::Decide(n) => world.decide(id(n)),
        Event::Act(n) => world.act(id(n)),
        Event::Start(n) => world.start(id(n)),
        Event::Judge(n) => world.judge(id(n)),
        Event::Update(n, late) => world.update(id(n), late),
        Event::Crash(n) => world.stop(id(n)),
        Event::See(n, sees) => world.see(id(n), sees),
        Event::LoseSession(n) => world.lose_session(id(n)),
        Event::Wait(seconds) => world.wait(seconds),
        Event::PowerCut => (1..=ALL).for_each(|n| world.stop(id(n))),
        Event::Say(said) => world.say(&said),
    }
    world.check();
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever happens, in whatever order: never two on trial, never a majority gone, nothing begins while it is
    /// paused, and in the end all have the release, or it has failed and is said to have.
    #[test]
    fn a_wave_keeps_its_promises(
        bad in prop::option::of(1..=ALL),
        events in prop::collection::vec(event(), 0..250),
    ) {
        let mut world = World::new();
        if let Some(bad) = bad {
            world.get(id(bad)).sound = false;
        }
        for event in events {
            happen(&mut world, event);
        }
        world.settle();
        if world.wish.as_ref().is_some_and(|wish| wish.state == Asked::Aborted) {
            prop_assert!(world.nodes.values().all(|it| it.word.told_for.is_none()), "{world:#?}");
        }
        world.say(&Command::Resume);
        world.say(&upgrade(NEW, true));
        world.settle();
        prop_assert!(world.turn.is_none() && world.noout.is_empty(), "{world:#?}");
        let view = world.view();
        let wish = world.wish.clone().unwrap();
        prop_assert_eq!(wish.state, Asked::Running);
        if bad.is_some() {
            prop_assert!(!view.is_over(&wish) && !view.failures(&wish).is_empty(), "{world:#?}");
        } else {
            prop_assert!(view.is_over(&wish), "{world:#?}");
        }
    }

    /// A node that does not come back, or hangs on with its session, leaves nothing set behind, and nobody begins after it.
    #[test]
    fn a_node_that_is_lost_leaves_nothing_set(
        lost in 1..=ALL,
        hangs in any::<bool>(),
        events in prop::collection::vec(event(), 0..250),
    ) {
        let mut world = World::new();
        for event in events {
            happen(&mut world, event);
        }
        if hangs {
            world.start(id(lost));
            world.see(id(lost), false);
        } else {
            world.stop(id(lost));
        }
        world.get(id(lost)).dead = true;
        world.settle();
        prop_assert!(world.noout.is_empty(), "{world:#?}");
        let before = world.activations.len();
        world.say(&Command::Resume);
        world.settle();
        prop_assert_eq!(world.activations.len(), before, "somebody began without node {}", lost);
    }
}

/// The order in which an undisturbed wave activates, and how often.
#[test]
fn hypervisors_first_and_the_leader_last() {
    for leader in 1..=COORDINATORS {
        let mut world = World::new();
        world.leader = id(leader);
        world.settle();
        let order: Vec<u16> = world.activations.iter().map(|(_, node)| u16::from(*node)).collect();
        let mut expected = vec![4, 5];
        expected.extend((1..=COORDINATORS).filter(|n| *n != leader));
        expected.push(leader);
        assert_eq!(order, expected);
        assert_ne!(world.leader, id(leader), "it was switched over");
    }
}

/// One on which it fails stops the wave at once, is on the old release, and the others are as they were.
#[test]
fn a_failure_stops_the_wave() {
    let mut world = World::new();
    world.get(id(5)).sound = false;
    world.settle();
    let running = |world: &World, n: u16| world.nodes[&id(n)].word.running.to_string();
    assert_eq!([4, 5, 1, 2, 3].map(|n| running(&world, n)), [NEW, OLD, OLD, OLD, OLD]);
    assert_eq!(world.activations.len(), 2);
    world.get(id(5)).sound = true;
    world.say(&upgrade(NEW, false));
    world.settle();
    assert_eq!(world.activations.len(), 2, "nobody said that it may be tried again");
    world.say(&upgrade(NEW, true));
    world.settle();
    assert_eq!([4, 5, 1, 2, 3].map(|n| running(&world, n)), [NEW; 5]);
}

/// With its session it would keep the lock, and nobody could take back what it has set.
#[test]
fn a_node_that_hangs_in_its_turn_is_cleaned_up_after() {
    let mut world = World::new();
    world.until(|world| !world.noout.is_empty());
    world.see(id(4), false);
    world.get(id(4)).dead = true;
    world.settle();
    assert!(world.noout.is_empty() && world.turn.is_none(), "{world:#?}");
}

/// An updater that has read what it was told, and has not shown it yet, activates all the same.
#[test]
fn a_turn_that_is_aborted_ends_when_the_updater_has_heard_it() {
    for late in [false, true] {
        let mut world = World::new();
        world.until(|world| world.nodes[&id(4)].word.activates == Some(true));
        world.update(id(4), false);
        world.say(&Command::Abort);
        let go_on = |world: &mut World| {
            for _ in 0..9 {
                world.decide(id(4));
                world.act(id(4));
            }
        };
        go_on(&mut world);
        assert!(world.turn.is_some(), "it may activate at any moment");
        world.update(id(4), false);
        go_on(&mut world);
        world.update(id(4), late);
        go_on(&mut world);
        assert_eq!(world.turn.is_some(), late, "{world:#?}");
        world.settle();
        assert!(world.turn.is_none() && world.noout.is_empty(), "{world:#?}");
    }
}
