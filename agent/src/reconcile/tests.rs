//! Ring b: the loop against a fake host that keeps a small world, under paused time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::task::LocalSet;
use trilith_core::status::{NodeStatus, SubjectStatus};

use super::*;
use crate::report::Report;

mod pauses; // how soon things are mended, and how slowly what does not help is tried again

type Items = BTreeSet<u8>;

/// A subject that wants a set of numbers to be there; numbers over 200 cannot be had.
struct Numbers;

#[derive(Debug, Clone, PartialEq)]
enum NumberStep {
    Remove(u8),
    Add(u8),
}

impl fmt::Display for NumberStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove(n) => write!(f, "remove {n}"),
            Self::Add(n) => write!(f, "add {n}"),
        }
    }
}

impl Subject for Numbers {
    const NAME: &'static str = "numbers";
    type Desired = Items;
    type Observed = Items;
    type Step = NumberStep;
    const ON_FAILURE: OnFailure = OnFailure::GoOn;

    fn plan(desired: &Items, observed: &Items) -> Plan<NumberStep> {
        let missing = desired.difference(observed);
        let impossible = |n: &u8| Problem { object: n.to_string(), reason: "cannot be had".into() };
        Plan {
            steps: (observed.difference(desired).map(|n| NumberStep::Remove(*n)))
                .chain(missing.clone().filter(|n| **n <= 200).map(|n| NumberStep::Add(*n)))
                .collect(),
            problems: missing.filter(|n| **n > 200).map(impossible).collect(),
        }
    }
}

/// The fake host's world.
#[derive(Default)]
struct World {
    items: Items,
    /// Looks that will fail.
    blind: u32,
    /// Steps that will fail.
    failures: u32,
    /// A step that always fails.
    refused: Option<NumberStep>,
    /// Steps are accepted and have no effect.
    ineffective: bool,
    /// A step that never returns.
    hangs: Option<NumberStep>,
    looks: u32,
    /// When each step was asked for.
    asked: Vec<(Instant, String)>,
    /// What happens to the world at the next step, before it.
    at_next_step: Option<Box<dyn FnOnce()>>,
}

#[derive(Clone, Default)]
struct FakeHost {
    world: Rc<RefCell<World>>,
    event: Rc<Notify>,
}

impl FakeHost {
    /// A change behind the agent's back, with its event.
    fn meddle(&self, change: impl FnOnce(&mut Items)) {
        change(&mut self.world.borrow_mut().items);
        self.event.notify_one();
    }

    fn steps(&self) -> Vec<String> {
        self.world.borrow().asked.iter().map(|(_, step)| step.clone()).collect()
    }

    /// The times between the steps, in milliseconds.
    fn pauses(&self) -> Vec<u128> {
        let world = self.world.borrow();
        world.asked.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_millis()).collect()
    }
}

impl Host<Numbers> for FakeHost {
    async fn observe(&mut self, _desired: &Items) -> Result<Items, HostError> {
        let mut world = self.world.borrow_mut();
        world.looks += 1;
        if world.blind > 0 {
            world.blind -= 1;
            return Err("no light".into());
        }
        Ok(world.items.clone())
    }

    async fn apply(&mut self, step: &NumberStep) -> Result<(), HostError> {
        let before = self.world.borrow_mut().at_next_step.take();
        if let Some(before) = before {
            before();
        }
        let hangs = {
            let mut world = self.world.borrow_mut();
            world.asked.push((Instant::now(), step.to_string()));
            if world.failures > 0 {
                world.failures -= 1;
                return Err("no hands".into());
            }
            if world.refused.as_ref() == Some(step) {
                return Err("never".into());
            }
            world.hangs.as_ref() == Some(step)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut world = self.world.borrow_mut();
        if !world.ineffective {
            match step {
                NumberStep::Remove(n) => world.items.remove(n),
                NumberStep::Add(n) => world.items.insert(*n),
            };
        }
        drop(world);
        // A real host reports our own changes too.
        self.event.notify_one();
        Ok(())
    }

    async fn changed(&mut self) {
        self.event.notified().await;
    }
}

/// One loop or more on one status.
struct Bench {
    report: Report,
    seen: watch::Receiver<NodeStatus>,
    pulses: Pulses,
}

impl Bench {
    fn new(subjects: &[&'static str]) -> Self {
        let report = Report::new();
        for subject in subjects {
            drop(report.subject(subject));
        }
        Self { seen: report.subscribe(), report, pulses: Pulses::new() }
    }

    /// Starts a loop on the current `LocalSet`.
    fn start(
        &mut self,
        name: &'static str,
        host: &FakeHost,
        after: After,
    ) -> watch::Sender<Option<Items>> {
        let desired = watch::Sender::new(None);
        let inputs = Inputs { desired: desired.subscribe(), after, pulse: self.pulses.add(name) };
        tokio::task::spawn_local(run::<Numbers, _>(
            host.clone(),
            inputs,
            self.report.subject(name),
        ));
        desired
    }

    /// Waits for a value of a subject's status, not for a notification.
    async fn until(
        &mut self,
        name: &str,
        wanted: impl Fn(&SubjectStatus) -> bool,
    ) -> SubjectStatus {
        let status = self.seen.wait_for(|status| wanted(&status.subjects[name])).await.unwrap();
        status.subjects[name].clone()
    }

    async fn until_converged(&mut self, name: &str) -> SubjectStatus {
        self.until(name, |subject| subject.state == State::Converged).await
    }
}

fn items(list: &[u8]) -> Items {
    list.iter().copied().collect()
}

/// Runs a test on a paused clock; five minutes without a result are a hang.
fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let limited = async { timeout(Duration::from_hours(1), test).await.expect("the loop hangs") };
    LocalSet::new().block_on(&runtime, limited);
}

#[test]
fn converges_and_then_changes_nothing() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        host.meddle(|items| _ = items.insert(9));
        desired.send_replace(Some(items(&[1, 2])));
        let status = bench.until_converged("a").await;
        assert_eq!(host.steps(), ["remove 9", "add 1", "add 2"]);
        assert_eq!((status.steps_applied, status.has_converged), (3, true));

        let looks = host.world.borrow().looks;
        tokio::time::advance(Duration::from_secs(500)).await;
        assert_eq!(host.steps().len(), 3);
        assert!(host.world.borrow().looks <= looks + 1, "only its own event brings one more look");
    });
}

#[test]
fn a_host_that_cannot_be_looked_at_is_a_status() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        host.world.borrow_mut().blind = 3;
        desired.send_replace(Some(items(&[1])));
        let status = bench.until("a", |subject| matches!(subject.state, State::Retry { .. })).await;
        assert_eq!(status.state.to_string(), "retry: cannot observe: no light");
        bench.until_converged("a").await;
        let looks = host.world.borrow().looks;
        assert!(
            (5..=6).contains(&looks),
            "three blind, a plan, a confirmation, perhaps its own event: {looks}"
        );
    });
}

#[test]
fn waits_until_the_predecessor_has_converged() {
    paused(async {
        let (mut bench, first, second) =
            (Bench::new(&["a", "b"]), FakeHost::default(), FakeHost::default());
        let desired_b = bench.start("b", &second, After::Converged("a"));
        let desired_a = bench.start("a", &first, After::Nothing);
        desired_b.send_replace(Some(items(&[2])));
        let waits_for = |on: &'static str| {
            move |subject: &SubjectStatus| subject.state == State::Waiting { on: on.into() }
        };
        bench.until("b", waits_for("a")).await;
        bench.until("a", waits_for("the node bundle")).await;
        assert!(second.steps().is_empty());

        desired_a.send_replace(Some(items(&[1])));
        bench.until_converged("b").await;
        // Once is enough: a predecessor in trouble later does not stop the successor.
        desired_a.send_replace(Some(items(&[1, 201])));
        bench.until("a", |subject| matches!(subject.state, State::Degraded { .. })).await;
        desired_b.send_replace(Some(items(&[2, 3])));
        bench
            .until("b", |subject| subject.steps_applied == 2 && subject.state == State::Converged)
            .await;
    });
}

#[test]
fn services_start_after_a_network_that_has_settled_but_not_converged() {
    paused(async {
        let (mut bench, first) = (Bench::new(&["a", "b", "c"]), FakeHost::default());
        let (second, third) = (FakeHost::default(), FakeHost::default());
        let desired_b = bench.start("b", &second, After::Settled("a"));
        let desired_c = bench.start("c", &third, After::Converged("a"));
        let desired_a = bench.start("a", &first, After::Nothing);
        desired_b.send_replace(Some(items(&[2])));
        desired_c.send_replace(Some(items(&[3])));
        first.world.borrow_mut().failures = 1;
        desired_a.send_replace(Some(items(&[1, 201])));
        bench.until("a", |subject| matches!(subject.state, State::Retry { .. })).await;
        assert!(second.steps().is_empty(), "failing is not settled");

        bench.until("a", |subject| matches!(subject.state, State::Degraded { .. })).await;
        bench.until_converged("b").await;
        assert!(third.steps().is_empty(), "others wait until it has converged");
        first.meddle(|items| _ = items.insert(201));
        bench.until_converged("c").await;
    });
}

#[test]
fn new_configuration_voids_the_rest_of_a_plan() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = Rc::new(bench.start("a", &host, After::Nothing));
        let sender = Rc::clone(&desired);
        host.world.borrow_mut().at_next_step =
            Some(Box::new(move || drop(sender.send_replace(Some(items(&[7]))))));
        desired.send_replace(Some(items(&[1, 2, 3])));
        bench.until_converged("a").await;
        assert_eq!(host.steps(), ["add 1", "remove 1", "add 7"]);
    });
}

#[test]
fn new_configuration_ends_a_long_pause() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        host.world.borrow_mut().failures = 9;
        desired.send_replace(Some(items(&[1])));
        bench.seen.wait_for(|_| host.steps().len() == 9).await.unwrap();
        let before = Instant::now();
        desired.send_replace(Some(items(&[2])));
        bench.until_converged("a").await;
        assert!(before.elapsed() < Duration::from_millis(10), "{:?}", before.elapsed());
    });
}

#[test]
fn a_call_that_hangs_becomes_an_error() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        host.world.borrow_mut().hangs = Some(NumberStep::Add(1));
        desired.send_replace(Some(items(&[1])));
        let status = bench.until("a", |subject| matches!(subject.state, State::Retry { .. })).await;
        assert_eq!(status.state.to_string(), "retry: add 1: no answer within 30 s");
        host.world.borrow_mut().hangs = None;
        bench.until_converged("a").await;
    });
}

#[test]
fn a_loop_answers_the_watchdog_while_it_waits_and_not_while_it_hangs() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = bench.start("a", &host, After::Nothing);
        let beat = async |pulses: &Pulses| {
            pulses.ask();
            tokio::time::sleep(Duration::from_millis(1)).await;
            pulses.silent()
        };
        assert!(beat(&bench.pulses).await.is_empty(), "waiting for the bundle");
        desired.send_replace(Some(items(&[1])));
        bench.until_converged("a").await;
        assert!(beat(&bench.pulses).await.is_empty(), "converged");
        host.world.borrow_mut().hangs = Some(NumberStep::Add(2));
        desired.send_replace(Some(items(&[1, 2])));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(beat(&bench.pulses).await, ["a"], "in a call that hangs");
    });
}

#[test]
fn the_loop_ends_when_nobody_sends_desired_states_any_more() {
    paused(async {
        let (mut bench, host) = (Bench::new(&["a"]), FakeHost::default());
        let desired = watch::Sender::new(Some(items(&[1])));
        let inputs = Inputs {
            desired: desired.subscribe(),
            after: After::Nothing,
            pulse: bench.pulses.add("a"),
        };
        let task =
            tokio::task::spawn_local(run::<Numbers, _>(host, inputs, bench.report.subject("a")));
        bench.until_converged("a").await;
        drop(desired);
        task.await.unwrap();
    });
}
