//! Units under the agent's eye, on a real systemd: killed, stopped by hand, failing, coming and going.

#![expect(clippy::print_stdout, reason = "tests print what they measured")]

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use trilith_core::status::{NodeStatus, State};
use trilith_tests::lab::{Container, Lab, Spec, now, text};

/// How long a node may take from power-on until its services run.
const BOOT: Duration = Duration::from_mins(2);
/// For what takes a moment: longer than anything here on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// How long until a unit is tried again, until its restarts are forgiven, and until the look after that.
const CALM: Duration = Duration::from_mins(3);

fn services(status: &NodeStatus) -> String {
    status.subjects.get("services").map(|subject| subject.state.to_string()).unwrap_or_default()
}

/// The unit of every node here.
const UNIT: &str = "ssh.service";

fn says_nothing_of_it(status: &NodeStatus) -> bool {
    let state = status.subjects.get("services").map(|subject| &subject.state);
    match state {
        Some(State::Converged) => true,
        Some(State::Degraded { problems }) => problems.iter().all(|it| it.object != UNIT),
        _ => false,
    }
}

fn up() -> Result<Lab> {
    let lab = Lab::tied(&Spec { nodes: Some(1), ..Spec::sample()? })?;
    lab.start("n1")?;
    let node = lab.node("n1")?;
    node.wait_status("the SSH server runs", BOOT, |status| {
        says_nothing_of_it(status) && node.shell("systemctl is-active ssh.service").is_ok()
    })?;
    Ok(lab)
}

fn since(moment: Duration) -> Result<Duration> {
    Ok(now()?.saturating_sub(moment))
}

/// A new process serves, and the agent has nothing more to say.
fn runs_again(node: &Container<'_>, old: u32) -> Result<()> {
    node.wait_status("it runs again", SOON, |status| {
        says_nothing_of_it(status) && node.main_pid(UNIT).is_ok_and(|pid| pid != old)
    })?;
    Ok(())
}

#[test]
fn a_killed_unit_and_one_stopped_by_hand_are_noticed_and_back() -> Result<()> {
    let lab = up()?;
    let node = lab.node("n1")?;
    let mut noticed = Vec::new();
    for _ in 0..2 {
        let pid = node.main_pid(UNIT)?;
        let killed = now()?;
        node.shell(&format!("kill -9 {pid}"))?;
        noticed.push(node.said(killed, UNIT, SOON)?);
        runs_again(&node, pid)?;
        println!(
            "killed: noticed after {:?}, again a process after {:?}",
            noticed.last(),
            since(killed)?
        );
    }
    // `ci/bench services` measures it (100 ms); here it only must not be a look at the next timer.
    let best = noticed.iter().min().context("no measurement")?;
    ensure!(*best < Duration::from_secs(1), "noticed after {noticed:?}");

    let pid = node.main_pid(UNIT)?;
    let stopped = now()?;
    node.shell("systemctl stop ssh.service")?;
    let noticed = node.said(stopped, "start ssh.service", SOON)?;
    runs_again(&node, pid)?;
    println!(
        "stopped by hand: noticed after {noticed:?}, again a process after {:?}",
        since(stopped)?
    );
    ensure!(noticed < Duration::from_secs(1), "noticed after {noticed:?}");
    lab.down()
}

/// How long to look for passes that nothing asks for.
const LOOK: Duration = Duration::from_secs(10);
/// How many there may be in that time, of the timer and of a unit that is tried again with long pauses. A busy loop
/// makes twenty.
const FEW: u64 = 3;

/// The first coordinator alone has units that are off and wait for the others: looking at them must be no event, and
/// nothing is started that could only fail.
#[test]
fn a_node_that_waits_for_the_others_is_at_rest() -> Result<()> {
    let lab = up()?;
    let node = lab.node("n1")?;
    let passes = || -> Result<u64> {
        let status = node.status()?;
        Ok(status.subjects.get("services").context("no subject services")?.passes)
    };
    let counted = node.until("nothing more happens", CALM, || {
        let before = passes()?;
        // A time and no state: that nothing happens can only be watched.
        thread::sleep(LOOK);
        let made = passes()? - before;
        ensure!(made <= FEW, "{made} passes in {LOOK:?}");
        Ok(made)
    })?;
    let patroni = node.property("patroni.service", "ActiveState")?;
    ensure!(patroni == "inactive", "without ZooKeeper Patroni is {patroni}");
    println!("a node that waits: {counted} passes in {LOOK:?}");
    lab.down()
}

#[test]
fn a_unit_that_comes_and_goes_is_a_status_until_it_is_calm() -> Result<()> {
    let lab = up()?;
    let node = lab.node("n1")?;
    for _ in 0..4 {
        let pid = node.main_pid(UNIT)?;
        node.shell(&format!("kill -9 {pid}"))?;
        node.until("a new process", SOON, || {
            ensure!(node.main_pid(UNIT)? != pid);
            Ok(())
        })?;
    }
    let status = node.wait_status("it is seen to flap", SOON, |status| {
        services(status).contains("runs, and failed before, restarted 4 times since 20")
    })?;
    println!("flapping: {}", text(&status));
    node.wait_status("it is forgiven", CALM, says_nothing_of_it)?;
    let restarts = node.property(UNIT, "NRestarts")?;
    ensure!(restarts == "0", "{restarts}");
    lab.down()
}

#[test]
fn a_unit_that_cannot_start_says_why_and_is_no_busy_loop() -> Result<()> {
    let lab = up()?;
    let node = lab.node("n1")?;
    let bad = "/etc/ssh/sshd_config.d/99-bad.conf";
    node.shell(&format!("echo 'Prot 22' >{bad}; systemctl restart ssh.service || true"))?;
    let begun = now()?;
    let status = node.wait_status("the reason is told", SOON, |status| {
        let state = services(status);
        state.contains("failed (exit-code)") && state.contains("Bad configuration option: Prot")
    })?;
    println!("failing: {}", text(&status));
    let tries = |from: Duration| -> Result<usize> {
        let log = format!("journalctl --boot --unit ssh.service --since @{}", from.as_secs());
        Ok(node.shell(&log)?.matches("Starting ssh.service").count())
    };
    // 250 ms, then twice as long each time: seven in the first half minute.
    node.until("it was tried three times", Duration::from_secs(30), || {
        ensure!(tries(begun)? >= 3);
        Ok(())
    })?;
    let (count, took) = (tries(begun)?, since(begun)?);
    println!("failing: {count} tries in {took:?}");
    ensure!(count <= 12, "{count} tries in {took:?}");
    node.shell(&format!("rm {bad}"))?;
    node.wait_status("it runs again", CALM, says_nothing_of_it)?;
    lab.down()
}
