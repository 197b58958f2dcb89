//! The wave's words with a real ZooKeeper: who may say something, what becomes of it, and who may see it. Containers have
//! no slots: the updater says so, and nobody begins.

mod aborts; // a wave that somebody ends in the middle
mod evacuation; // machines leave a node before it restarts
mod outage; // the power of the whole site
mod rehearsal; // an upgrade rehearsed by an operator
mod rolling; // waves over a whole cluster
mod trials; // releases with which a node does not come back to the others

use std::time::Duration;

use anyhow::{Result, ensure};
use trilith_tests::command::output;
use trilith_tests::firmware::upgrade;
use trilith_tests::lab::{Container, Lab, Spec};
use trilith_tests::quorums::{PATIENCE, all_formed, ceph, leader, start};

/// A release that no node has.
const NEXT: &str = "2999.1.1-1";

#[test]
fn a_wave_is_wished_by_those_who_may_and_seen_by_nobody_else() -> Result<()> {
    let lab = Lab::tied(&Spec { nodes: Some(4), ..Spec::sample()? })?;
    has_releases(&lab, "10m")?;
    start(&lab, &lab.names())?;
    all_formed(&lab)?;
    lab.cluster().make_operator(&[])?;
    let node = lab.node("n1")?;
    clients_may_again_what_an_older_release_did_not_give(&node)?;
    let plan = node.until("every node says where it stands", PATIENCE, || {
        let plan = upgrade(&lab, &[NEXT, "--plan"])?;
        ensure!(plan.lines().filter(|line| !line.starts_with(' ')).count() == 4, "{plan}");
        Ok(plan)
    })?;
    println!("{plan}");
    the_order_is_right(&lab, &plan)?;
    let error = refusal(&lab, &[NEXT, "--detach"])?;
    ensure!(error.contains("--admin"), "{error}");
    ensure!(refusal(&lab, &["--pause", "--detach"])?.contains("--admin"));

    lab.cluster().make_operator(&["--admin"])?;
    ensure!(refusal(&lab, &["--pause", "--detach"])?.contains("there is no wave"));
    ensure!(upgrade(&lab, &[NEXT, "--detach"])?.contains("goes on (admin:alice)"));
    ensure!(refusal(&lab, &["2999.1.2-1", "--detach"])?.contains("abort it first"));
    ensure!(upgrade(&lab, &["--pause", "--detach"])?.contains("is paused"));
    ensure!(upgrade(&lab, &["--resume", "--detach"])?.contains("goes on"));
    no_node_has_slots(&lab, &node)?;
    only_the_account_sees_it(&node)?;
    a_node_that_is_gone_is_silent(&lab)?;
    ensure!(upgrade(&lab, &["--abort", "--detach"])?.contains("is aborted"));
    ensure!(refusal(&lab, &["--resume", "--detach"])?.contains("begin another one"));
    lab.down()
}

/// A cluster that was formed by a release whose wave asked less of Ceph.
fn clients_may_again_what_an_older_release_did_not_give(node: &Container<'_>) -> Result<()> {
    node.shell("ceph auth caps client.trilith mon 'allow r'")?;
    node.until("the wave may set noout again", PATIENCE, || {
        let client = ceph::ask(node, "auth get client.trilith")?;
        let may = client[0]["caps"]["mon"].as_str().unwrap_or_default();
        ensure!(may.contains("osd set-group"), "it may {may:?}");
        Ok(())
    })
}

/// A cluster whose nodes have slots, and [`rolling::FIRST`] from their installation; its operator may do all.
fn with_slots(trial: &str) -> Result<Lab> {
    let lab = Lab::tied(&Spec { slots: true, ..Spec::sample()? })?;
    has_releases(&lab, trial)?;
    for name in lab.names() {
        lab.install(name, &rolling::version(rolling::FIRST)?)?;
        lab.boot_newest(name)?;
    }
    all_formed(&lab)?;
    lab.cluster().make_operator(&["--admin"])?;
    Ok(lab)
}

/// Says in the cluster file where releases come from and how long each may take to prove itself, before any node is on.
fn has_releases(lab: &Lab, trial: &str) -> Result<()> {
    lab.cluster().edit(|file| {
        file["update"]["source"] = "https://releases.example.net/trilith".into();
        file["update"]["trust"] = "5".repeat(64).into();
        file["update"]["trial"] = trial.into();
    })?;
    lab.deliver()
}

/// The updaters say why they cannot do their part, everybody sees it, and nobody begins.
fn no_node_has_slots(lab: &Lab, node: &Container<'_>) -> Result<()> {
    node.until("every updater says what is missing", PATIENCE, || {
        let shown = upgrade(lab, &["--detach"])?;
        ensure!(shown.matches("the initrd has left no word").count() >= 4, "{shown}");
        Ok(())
    })
}

/// What it says when it refuses.
fn refusal(lab: &Lab, words: &[&str]) -> Result<String> {
    let output = lab.inside(|| output(&mut lab.cluster().upgrade(words)?))?;
    ensure!(!output.status.success(), "{words:?} was not refused");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The one that is no coordinator comes first, ZooKeeper's leader not before those that lead nothing.
fn the_order_is_right(lab: &Lab, plan: &str) -> Result<()> {
    let lines: Vec<&str> = plan.lines().filter(|line| !line.starts_with(' ')).collect();
    ensure!(lines.first().is_some_and(|line| line.starts_with("1. n4: no coordinator")), "{plan}");
    let name = leader(lab)?;
    let own = lines.iter().find(|line| line.contains(&format!(". {name}: ")));
    ensure!(own.is_some_and(|line| line.contains("leads")), "{name}: {plan}");
    let idle = lines.iter().rposition(|line| line.contains("leads nothing"));
    let leads =
        lines.iter().position(|line| line.contains("that leads ") && !line.contains("nothing"));
    ensure!(idle.zip(leads).is_none_or(|(idle, leads)| idle < leads), "{plan}");
    Ok(())
}

/// A client with a certificate of the cluster, and without the agents' account.
fn only_the_account_sees_it(node: &Container<'_>) -> Result<()> {
    let ask = r#"
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
own = "/run/trilith/zookeeper/"
client = KazooClient(hosts="10.30.1.1:2281", use_ssl=True, verify_certs=True, ca=own + "authority.pem",
    certfile=own + "node.pem", keyfile=own + "node.pem")
client.start()
for act in [lambda: client.get("/trilith/upgrade/wish"), lambda: client.set("/trilith/upgrade/wish", b""),
        lambda: client.create("/trilith/upgrade/turn", b""), lambda: client.delete("/trilith/upgrade/wish")]:
    try:
        act()
        print("allowed")
    except NoAuthError:
        print("refused")
client.stop()
"#;
    let answer = node.shell(&format!("python3 -c '{}'", ask.replace('\'', "\"")))?;
    ensure!(answer.split_whitespace().eq(["refused"; 4]), "{answer}");
    Ok(())
}

/// The others see it within the time of a session.
fn a_node_that_is_gone_is_silent(lab: &Lab) -> Result<()> {
    lab.kill("n4")?;
    lab.node("n1")?.until("n4 is seen to be silent", Duration::from_mins(1), || {
        let shown = upgrade(lab, &["--detach"])?;
        ensure!(shown.contains("n4: is silent"), "{shown}");
        Ok(())
    })
}
