//! How soon trouble is mended, and how slowly what does not help is tried again. The clock is paused in all of these: a
//! sleep is a moment of a world that the test makes, and costs no time.

use super::*;

#[test]
fn a_change_behind_the_back_is_repaired_at_once() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        desired.send_replace(Some(items(&[1, 2])));
        bench.until_converged("a").await;
        for round in 0..4 {
            let before = Instant::now();
            host.meddle(|items| _ = items.remove(&2));
            bench.until("a", |s| s.steps_applied == 3 + round && s.state == State::Converged).await;
            assert!(before.elapsed() < Duration::from_millis(10), "round {round}");
        }
    });
}

/// Item 2 is taken away four times, and is back at once each time; `applied` counts the steps after the first.
async fn mends_at_once(bench: &mut Bench, host: &FakeHost, applied: u64) {
    for round in 0..4 {
        let before = Instant::now();
        host.meddle(|items| _ = items.remove(&2));
        bench.until("a", |subject| subject.steps_applied == applied + round).await;
        assert!(before.elapsed() < Duration::from_millis(10), "round {round}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_repair_does_not_wait_because_the_subject_waits_for_something_else() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        desired.send_replace(Some(items(&[1, 2, 201])));
        bench.until("a", |subject| matches!(subject.state, State::Degraded { .. })).await;
        tokio::time::sleep(Duration::from_mins(5)).await;
        mends_at_once(&mut bench, &host, 3).await;
    });
}

#[test]
fn a_repair_does_not_wait_because_another_step_fails_for_long() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        host.world.borrow_mut().refused = Some(NumberStep::Add(1));
        desired.send_replace(Some(items(&[1, 2])));
        tokio::time::sleep(Duration::from_mins(5)).await;
        mends_at_once(&mut bench, &host, 2).await;
    });
}

async fn dies_a_second_after_each_start(host: FakeHost) {
    for died in 0.. {
        while host.steps().len() == died {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_millis(900)).await;
        host.meddle(|items| _ = items.remove(&1));
    }
}

#[test]
fn what_dies_a_second_after_each_start_is_started_more_and_more_slowly() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        // Beside a trouble that nothing mends, as a flapping unit rarely comes alone.
        desired.send_replace(Some(items(&[1, 201])));
        bench.until("a", |subject| matches!(subject.state, State::Degraded { .. })).await;
        let flaps = tokio::task::spawn_local(dies_a_second_after_each_start(host.clone()));
        tokio::time::sleep(Duration::from_mins(20)).await;
        let pauses = host.pauses();
        assert!(pauses[..4].iter().all(|pause| *pause <= 1100), "at once at first: {pauses:?}");
        assert_eq!(pauses.last(), Some(&60_000), "{pauses:?}");
        assert!(pauses.is_sorted_by(|a, b| a <= &(b + 200)), "{pauses:?}");

        // Calm again, it is forgotten.
        flaps.abort();
        host.meddle(|items| _ = items.insert(1));
        tokio::time::sleep(Duration::from_secs(75)).await;
        let steps = host.steps().len();
        let before = Instant::now();
        host.meddle(|items| _ = items.remove(&1));
        bench.seen.wait_for(|_| host.steps().len() > steps).await.unwrap();
        assert!(before.elapsed() < Duration::from_millis(10), "{:?}", before.elapsed());
    });
}

#[test]
fn steps_without_effect_are_a_status_and_no_busy_loop() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        host.world.borrow_mut().ineffective = true;
        desired.send_replace(Some(items(&[1])));
        let status = bench.until("a", |subject| matches!(subject.state, State::Retry { .. })).await;
        assert_eq!(status.state.to_string(), "retry: does not last: add 1");
        tokio::time::sleep(Duration::from_mins(10)).await;
        let steps = host.steps().len();
        assert!((10..25).contains(&steps), "{steps} in ten minutes");
        host.world.borrow_mut().ineffective = false;
        bench.until_converged("a").await;
    });
}

#[test]
fn someone_who_undoes_everything_is_no_busy_loop() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        desired.send_replace(Some(items(&[1])));
        let enemy = host.clone();
        let mut seen = bench.report.subscribe();
        tokio::task::spawn_local(async move {
            while seen.changed().await.is_ok() {
                let undo = enemy.world.borrow().items.contains(&1);
                undo.then(|| enemy.meddle(Items::clear));
            }
        });
        bench.until("a", |subject| matches!(subject.state, State::Retry { .. })).await;
        tokio::time::sleep(Duration::from_mins(10)).await;
        let (steps, looks) = (host.steps().len(), host.world.borrow().looks);
        assert!(steps < 25, "{steps} steps in ten minutes");
        assert!(looks < 1250, "{looks} looks in ten minutes");
    });
}

#[test]
fn a_storm_of_events_is_looked_at_twice_a_second() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        desired.send_replace(Some(items(&[1])));
        bench.until_converged("a").await;
        let before = host.world.borrow().looks;
        for _ in 0..10_000 {
            host.event.notify_one();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let looks = host.world.borrow().looks - before;
        assert!((20..50).contains(&looks), "{looks} looks in ten seconds");
    });
}

#[test]
fn a_failed_step_is_tried_again_with_growing_pauses() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        host.world.borrow_mut().failures = 11;
        desired.send_replace(Some(items(&[1])));
        let status = bench.until("a", |subject| matches!(subject.state, State::Retry { .. })).await;
        let State::Retry { error, at: _ } = status.state else { panic!("it is a retry") };
        assert_eq!(error, "add 1: no hands");
        bench.until_converged("a").await;
        let expected = [250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000];
        assert_eq!(host.pauses(), expected);
    });
}

#[test]
fn a_failed_step_does_not_keep_the_next_one_from_being_tried() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        host.world.borrow_mut().failures = 1;
        desired.send_replace(Some(items(&[1, 2])));
        bench.until_converged("a").await;
        assert_eq!(host.steps(), ["add 1", "add 2", "add 1"]);
    });
}

#[test]
fn problems_are_degraded_and_looked_at_again_by_timer_and_by_event() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        desired.send_replace(Some(items(&[1, 201])));
        let status =
            bench.until("a", |subject| matches!(subject.state, State::Degraded { .. })).await;
        assert_eq!(status.state.to_string(), "degraded: 201: cannot be had");
        assert_eq!(host.steps(), ["add 1"], "the rest comes up");
        assert!(!status.has_converged);

        let looks = host.world.borrow().looks;
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert!(host.world.borrow().looks >= looks + 10, "a timer brings a look");

        let before = Instant::now();
        host.meddle(|items| _ = items.insert(201));
        bench.until_converged("a").await;
        assert!(before.elapsed() < Duration::from_secs(1));
    });
}
