//! The quorums of three coordinators and a hypervisor, from empty disks through everything that may befall them.
//!
//! One cluster goes through all of it, in the order of what it costs, since forming is what takes time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use trilith_core::status::{NodeStatus, SubjectStatus};
use trilith_tests::lab::{Container, Cut, Lab, Spec, Wait};

/// How long a cluster may take to form or to come back before a test fails. The figures are judged elsewhere.
const PATIENCE: Duration = Duration::from_mins(3);

/// The subjects that make a quorum, as far as this release has them.
const QUORUMS: [&str; 1] = ["zookeeper"];

/// The coordinators of the lab's cluster file.
const COORDINATORS: [&str; 3] = ["n1", "n2", "n3"];

#[test]
fn quorums_form_and_outlive_what_befalls_them() -> Result<()> {
    let lab = Lab::tied(&Spec::sample()?)?;
    let begin = Instant::now();
    start(&lab, &lab.names())?;
    all_formed(&lab)?;
    say("power-on to all quorums formed", begin);

    a_killed_server_comes_back(&lab)?;
    one_is_stopped_and_catches_up(&lab)?;
    one_is_cut_off_says_so_and_is_healed(&lab)?;
    one_is_wiped_and_joins(&lab)?;
    all_lose_their_power_at_once(&lab)?;
    two_are_wiped_and_nothing_forms(&lab)
}

fn a_killed_server_comes_back(lab: &Lab) -> Result<()> {
    for name in COORDINATORS {
        let node = lab.node(name)?;
        let pid = || node.shell("systemctl show --property=MainPID --value zookeeper.service");
        let before = pid()?;
        let begin = Instant::now();
        node.shell("systemctl kill --signal=KILL zookeeper.service")?;
        node.until("another ZooKeeper runs", PATIENCE, || {
            let now = pid()?;
            ensure!(now != before && now.trim() != "0", "still {}", now.trim());
            Ok(())
        })?;
        say(&format!("{name}: a killed ZooKeeper runs again"), begin);
        others_serve(lab, name)?;
        all_formed(lab)?;
    }
    Ok(())
}

fn one_is_stopped_and_catches_up(lab: &Lab) -> Result<()> {
    lab.stop("n1")?;
    others_serve(lab, "n1")?;
    start(lab, &["n1"])?;
    all_formed(lab)
}

fn one_is_cut_off_says_so_and_is_healed(lab: &Lab) -> Result<()> {
    let alone = leader(lab)?;
    lab.cut(Cut { node: alone.clone(), from: Vec::new(), network: None })?;
    let node = lab.node(&alone)?;
    node.wait_status("it says that it is alone", PATIENCE, |status| {
        QUORUMS.iter().all(|name| {
            subject(status, name).is_ok_and(|subject| !subject.state.name().eq("converged"))
        })
    })?;
    others_serve(lab, &alone)?;
    lab.heal(&[])?;
    all_formed(lab)
}

fn one_is_wiped_and_joins(lab: &Lab) -> Result<()> {
    let wiped = leader(lab)?;
    lab.kill(&wiped)?;
    lab.wipe(&wiped)?;
    others_serve(lab, &wiped)?;
    start(lab, &[&wiped])?;
    all_formed(lab)
}

fn all_lose_their_power_at_once(lab: &Lab) -> Result<()> {
    lab.names().into_iter().try_for_each(|name| lab.kill(name))?;
    let begin = Instant::now();
    start(lab, &lab.names())?;
    all_formed(lab)?;
    say("cold start of an existing cluster", begin);
    Ok(())
}

fn two_are_wiped_and_nothing_forms(lab: &Lab) -> Result<()> {
    COORDINATORS.into_iter().try_for_each(|name| lab.kill(name))?;
    let wiped = ["n1", "n2"];
    wiped.into_iter().try_for_each(|name| lab.wipe(name))?;
    start(lab, &wiped)?;
    for name in wiped {
        let status = lab.node(name)?.wait(Wait::Settled, PATIENCE)?;
        let zookeeper = subject(&status, "zookeeper")?;
        let reason = zookeeper.state.to_string();
        ensure!(reason.contains("n3"), "{name} does not say that it waits for n3: {reason}");
        ensure!(
            zookeeper.details.role.is_none(),
            "{name} founded a second ensemble: {zookeeper:#?}"
        );
    }
    Ok(())
}

fn start(lab: &Lab, names: &[&str]) -> Result<()> {
    names.iter().try_for_each(|name| lab.start(name))
}

/// Waits until every node has converged and all coordinators serve, with one leader.
fn all_formed(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        node.wait(Wait::Converged, PATIENCE)?;
    }
    leader(lab).map(drop)
}

/// Waits until the coordinators but this one serve together without it.
fn others_serve(lab: &Lab, without: &str) -> Result<()> {
    for name in COORDINATORS.into_iter().filter(|name| *name != without) {
        for quorum in QUORUMS {
            let serves = |status: &NodeStatus| {
                subject(status, quorum).is_ok_and(|subject| subject.details.role.is_some())
            };
            lab.node(name)?.wait_status(
                &format!("{quorum} serves without {without}"),
                PATIENCE,
                serves,
            )?;
        }
    }
    Ok(())
}

/// The node whose ZooKeeper leads; an error unless there is exactly one.
fn leader(lab: &Lab) -> Result<String> {
    let mut leaders = Vec::new();
    for name in COORDINATORS {
        let node: Container<'_> = lab.node(name)?;
        let role = subject(&node.status()?, "zookeeper")?.details.role.clone();
        match role.as_deref() {
            Some("leader") => leaders.push(name.to_owned()),
            Some(_) => {}
            None => bail!("{name} is in no ensemble"),
        }
    }
    ensure!(leaders.len() == 1, "leaders: {leaders:?}");
    leaders.pop().context("no leader")
}

fn subject<'a>(status: &'a NodeStatus, name: &str) -> Result<&'a SubjectStatus> {
    status.subjects.get(name).with_context(|| format!("no subject {name}"))
}

/// A figure, in the output of the test.
fn say(what: &str, since: Instant) {
    println!("{what}: {:.1} s", since.elapsed().as_secs_f64());
}
