//! The quorums of three coordinators and a hypervisor, from empty disks through everything that may befall them.
//!
//! One cluster goes through all of it, since forming is what takes time, and ends with what it cannot outlive.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use trilith_tests::command::run;
use trilith_tests::lab::{Container, Cut, Lab, Spec, Wait};
use trilith_tests::quorums::{
    PATIENCE, all_formed, ceph, coordinators, database_leader, formed, leader, sql, start, subject,
    zookeeper_serves,
};

use crate::{authority, say, turns};

#[test]
fn quorums_form_and_outlive_what_befalls_them() -> Result<()> {
    let lab = Lab::tied(&Spec::sample()?)?;
    let begin = Instant::now();
    start(&lab, &lab.names())?;
    all_formed(&lab)?;
    say("power-on to all quorums formed", begin);
    sql(&lab, "n1", "create table kept (what text)")?;

    killed_services_come_back(&lab)?;
    turns::a_change_of_all_is_made_one_after_the_other(&lab)?;
    turns::secrets_are_replaced(&lab)?;
    authority::the_authority_is_replaced(&lab)?;
    one_is_stopped_and_catches_up(&lab)?;
    one_is_cut_off_says_so_and_is_healed(&lab)?;
    one_is_wiped_and_joins(&lab)?;
    all_lose_their_power_at_once(&lab)?;
    two_are_wiped_and_nothing_forms(&lab)
}

/// Writes a row and an object, which must be there ever after.
fn write(lab: &Lab, asked: &str, what: &str) -> Result<()> {
    sql(lab, asked, &format!("insert into kept values ('{what}')"))?;
    ceph::write(&lab.node(asked)?, what, what)
}

fn all_rows_are_kept(lab: &Lab, asked: &str, rows: &str) -> Result<()> {
    let found = sql(lab, asked, "select what from kept order by 1")?;
    let found: Vec<_> = found.lines().collect();
    ensure!(found.join(" ") == rows, "{found:?} is not {rows}");
    let node = lab.node(asked)?;
    for object in rows.split(' ') {
        ensure!(ceph::read(&node, object)? == object, "the object {object} is lost");
    }
    Ok(())
}

/// What runs on a coordinator, as patterns for systemctl.
const SERVICES: [&str; 6] = [
    "zookeeper.service",
    "patroni.service",
    "frr.service",
    "ceph-mon@*.service",
    "ceph-mgr@*.service",
    "ceph-osd@*.service",
];

fn killed_services_come_back(lab: &Lab) -> Result<()> {
    let all = coordinators(lab)?;
    for service in SERVICES {
        let node = lab.node(&leader(lab)?)?;
        let others: Vec<&str> = all.iter().copied().filter(|name| *name != node.name()).collect();
        let before = node.main_pid(service)?;
        let begin = Instant::now();
        node.shell(&format!("systemctl kill --signal=KILL '{service}'"))?;
        zookeeper_serves(lab, &others)?;
        node.until(&format!("another {service} runs"), PATIENCE, || {
            let now = node.main_pid(service)?;
            ensure!(now != before, "still {now}");
            Ok(())
        })?;
        all_formed(lab)?;
        say(&format!("{service} killed until all is as before"), begin);
    }
    write(lab, "n1", "a-killed")?;
    all_rows_are_kept(lab, "n1", "a-killed")
}

fn one_is_stopped_and_catches_up(lab: &Lab) -> Result<()> {
    lab.stop("n1")?;
    formed(lab, &["n2", "n3"])?;
    write(lab, "n2", "b-stopped")?;
    start(lab, &["n1"])?;
    all_formed(lab)?;
    all_rows_are_kept(lab, "n1", "a-killed b-stopped")
}

/// The one that leads, which is the worst one to lose.
fn one_is_cut_off_says_so_and_is_healed(lab: &Lab) -> Result<()> {
    let alone = leader(lab)?;
    let others = coordinators(lab)?.into_iter().filter(|name| *name != alone).collect::<Vec<_>>();
    let begin = Instant::now();
    lab.cut(Cut { node: alone.clone(), from: Vec::new(), network: None })?;
    let node = lab.node(&alone)?;
    node.wait_status("it says that it is alone", PATIENCE, |status| {
        let alone =
            |name| subject(status, name).is_ok_and(|subject| subject.details.role.is_none());
        alone("zookeeper") && alone("ceph")
    })?;
    say("a coordinator that is cut off says so", begin);
    formed(lab, &others)?;
    say("the others have a leader of the database and a replica in step", begin);
    write(lab, others[0], "c-cut")?;
    // Whoever led there must not go on writing: nobody would ever see it.
    node.until("its database takes no writes", PATIENCE, || {
        let asked = node.shell(
            "runuser -u postgres -- psql --host=/run/patroni -Atqc 'select pg_is_in_recovery()'",
        );
        ensure!(asked.as_deref().map_or(true, |answer| answer.trim() == "t"), "it leads");
        Ok(())
    })?;
    lab.heal(&[])?;
    all_formed(lab)?;
    all_rows_are_kept(lab, &alone, "a-killed b-stopped c-cut")
}

/// The one that takes writes: its data must be on another one, and come back from there. Its new disk is a used one.
fn one_is_wiped_and_joins(lab: &Lab) -> Result<()> {
    let wiped = database_leader(lab, "n1")?.name();
    let others = coordinators(lab)?.into_iter().filter(|name| *name != wiped).collect::<Vec<_>>();
    lab.kill(wiped)?;
    lab.wipe(wiped)?;
    for disk in lab.node(wiped)?.disks() {
        run(Command::new("mkswap").arg(disk))?;
    }
    formed(lab, &others)?;
    write(lab, others[0], "d-wiped")?;
    start(lab, &[wiped])?;
    let node = lab.node(wiped)?;
    node.wait_status("a disk that is not blank is left alone", PATIENCE, |status| {
        subject(status, "osds").is_ok_and(|osds| osds.state.to_string().contains("not blank: swap"))
    })?;
    formed(lab, &coordinators(lab)?)?;
    // Of what was on this disk, which Ceph knows, nothing must be left.
    node.shell("dd if=/dev/zero of=/dev/disk/by-id/lab-osd0 bs=1M count=1 conv=fsync")?;
    all_formed(lab)?;
    all_rows_are_kept(lab, wiped, "a-killed b-stopped c-cut d-wiped")
}

fn all_lose_their_power_at_once(lab: &Lab) -> Result<()> {
    lab.names().into_iter().try_for_each(|name| lab.kill(name))?;
    let begin = Instant::now();
    start(lab, &lab.names())?;
    all_formed(lab)?;
    say("cold start of an existing cluster", begin);
    all_rows_are_kept(lab, "n1", "a-killed b-stopped c-cut d-wiped")?;
    the_osd_of_before_is_forgotten(lab)
}

/// The one that was on the disk of the node that was wiped. Whose monitor leads looks after it.
fn the_osd_of_before_is_forgotten(lab: &Lab) -> Result<()> {
    let begin = Instant::now();
    let monitor = leading_monitor(lab)?;
    let count = lab.names().len();
    let wanted = format!("{count} up, {count} in, of {count}");
    monitor.wait_status("no OSD is left over", PATIENCE, |status| {
        subject(status, "pools").is_ok_and(|pools| pools.details.more.get("osds") == Some(&wanted))
    })?;
    say("the OSD that was on a wiped disk is forgotten", begin);
    Ok(())
}

fn leading_monitor(lab: &Lab) -> Result<Container<'_>> {
    for node in lab.nodes() {
        if subject(&node.status()?, "ceph")?.details.role.as_deref() == Some("leader") {
            return Ok(node);
        }
    }
    bail!("no monitor leads")
}

fn two_are_wiped_and_nothing_forms(lab: &Lab) -> Result<()> {
    coordinators(lab)?.into_iter().try_for_each(|name| lab.kill(name))?;
    let wiped = ["n1", "n2"];
    wiped.into_iter().try_for_each(|name| lab.wipe(name))?;
    start(lab, &wiped)?;
    for name in wiped {
        let node = lab.node(name)?;
        node.wait(Wait::Answers, PATIENCE)?;
        let status = node.wait_status("it says that it waits for n3", PATIENCE, |status| {
            subject(status, "zookeeper").is_ok_and(|zk| zk.state.to_string().contains("n3"))
        })?;
        let zookeeper = subject(&status, "zookeeper")?;
        ensure!(
            zookeeper.details.role.is_none(),
            "{name} founded a second ensemble: {zookeeper:#?}"
        );
        let database = node.shell("ls /var/lib/postgresql/17/main 2>/dev/null || true")?;
        ensure!(database.is_empty(), "{name} made a new database: {database}");
        let ceph = subject(&status, "ceph")?;
        ensure!(
            ceph.details.role.is_none() && ceph.state.to_string().contains("n3"),
            "{name} founded a second quorum of monitors: {ceph:#?}"
        );
        let stores = node.shell("ls /var/lib/ceph/mon")?;
        ensure!(stores.is_empty(), "{name} made a store for a monitor: {stores}");
    }
    Ok(())
}
