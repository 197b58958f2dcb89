//! A wave over a whole cluster with everything in it, while it is written to; one that stops; one whose node is lost.
//!
//! Containers have no slots and no firmware: `trilith_tests::lab` has a folder, a program and a function in their place. What
//! decides, and what says that a node is back, is the real thing: agents, the wave, the gate, ZooKeeper, Ceph, Patroni.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use trilith_core::version::Version;
use trilith_tests::clients::account;
use trilith_tests::clients::writers::Writers;
use trilith_tests::firmware::{Firmware, upgrade};
use trilith_tests::lab::{Container, Lab};
use trilith_tests::quorums::{PATIENCE, all_formed, ceph};

use super::{the_order_is_right, with_slots};

/// What nodes have from their installation, and releases that come after it.
pub(super) const FIRST: &str = "2999.1.1-1";
pub(super) const SECOND: &str = "2999.2.1-1";
const BAD: &str = "2999.3.1-1";

/// How long a wave may take here, where a node that restarts takes the processors from the others.
const LONG: Duration = Duration::from_mins(40);
/// How often the nodes are looked at.
const LOOK: Duration = Duration::from_secs(1);

#[test]
fn a_cluster_is_upgraded_while_it_is_written_to() -> Result<()> {
    let lab = with_slots("10m")?;
    let writers = Writers::start(&lab)?;
    a_wave_goes_over_all(&lab)?;
    a_failure_stops_it(&lab)?;
    let reports = writers.end()?;
    for report in &reports {
        println!(
            "{}: {} written, {} errors, {} lost; between two writes {:.2} s at worst, {:.2} s in the median",
            report.kind,
            report.written,
            report.errors,
            report.lost.len(),
            report.worst,
            report.median
        );
    }
    ensure!(reports.iter().all(|it| it.lost.is_empty()), "writes are lost");
    what_a_lost_node_has_set_is_taken_back(&lab)?;
    lab.down()
}

pub(super) fn version(text: &str) -> Result<Version> {
    Ok(text.parse()?)
}

/// Hypervisor first, then the coordinators, those that lead something last, each once; it is paused while the first one
/// restarts.
fn a_wave_goes_over_all(lab: &Lab) -> Result<()> {
    let begin = Instant::now();
    let node = lab.node("n1")?;
    let plan = node.until("nothing speaks against the first", PATIENCE, || {
        let plan = upgrade(lab, &[SECOND, "--plan"])?;
        ensure!(!plan.lines().nth(1).is_some_and(|line| line.starts_with(' ')), "{plan}");
        Ok(plan)
    })?;
    println!("{plan}");
    the_order_is_right(lab, &plan)?;
    upgrade(lab, &[SECOND, "--detach"])?;
    let mut firmware = Firmware::new(lab);
    follow(&mut firmware, "the first one restarts", |it, _| !it.restarted.is_empty())?;
    upgrade(lab, &["--pause", "--detach"])?;
    let paused = follow(&mut firmware, "the first one is back and the others wait", |_, shown| {
        shown.contains(&format!("n4: runs {SECOND}, rests"))
            && shown.matches("has paused it").count() >= 3
    })?;
    println!("{paused}");
    ensure!(firmware.restarted == ["n4"], "{:?}", firmware.restarted);
    ensure!(holder(&node)? == "none", "the lock is held while nothing is done");
    upgrade(lab, &["--resume", "--detach"])?;
    let over = format!("wave: all nodes run {SECOND}");
    follow(&mut firmware, "the wave is over", |_, shown| shown.contains(&over))?;
    let mut all = firmware.restarted.clone();
    println!("restarted, in this order: {}", all.join(", "));
    all.sort();
    ensure!(all == lab.names(), "each once: {all:?}");
    ensure!(noout(&node)?.is_empty(), "noout is left behind");
    crate::say("a wave over four nodes", begin);
    all_formed(lab)?;
    its_monitor_stayed_longest(&node)
}

/// In the boot before this one: what its OSD held went on elsewhere before the monitors had to do without this one.
fn its_monitor_stayed_longest(node: &Container<'_>) -> Result<()> {
    let log = node.shell("journalctl --boot -1 --output cat --identifier systemd")?;
    let at = |text: &str| log.rfind(text).with_context(|| format!("no word of {text}: {log}"));
    let (osd, left) = (at("Stopped ceph-osd@")?, at("Stopped trilith-osds-left.service")?);
    let monitor = at("Stopping ceph-mon@")?;
    ensure!(osd < left && left < monitor, "{log}");
    Ok(())
}

/// The second node cannot boot the release: it is back on the one before, and nobody else begins.
fn a_failure_stops_it(lab: &Lab) -> Result<()> {
    upgrade(lab, &[BAD, "--detach"])?;
    let mut firmware = Firmware::new(lab);
    firmware.bad = Some((version(BAD)?, 1));
    let shown = follow(&mut firmware, "the wave is halted, and every node says so", |_, shown| {
        shown.matches("halted: ").count() >= 3
    })?;
    println!("{shown}");
    let mut each = firmware.restarted.clone();
    each.dedup();
    ensure!(
        each.len() == 2 && each[0] == "n4" && firmware.restarted.len() == 5,
        "{:?}",
        firmware.restarted
    );
    for node in lab.nodes() {
        let runs = if node.name() == "n4" { BAD } else { SECOND };
        ensure!(node.status()?.version == runs, "{} runs {}", node.name(), node.status()?.version);
    }
    ensure!(
        shown.contains(&format!("{}: {BAD} was activated, and {SECOND} runs", each[1])),
        "{shown}"
    );
    let node = lab.node("n1")?;
    node.until("noout is taken back", PATIENCE, || {
        let left = noout(&node)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    ensure!(upgrade(lab, &["--abort", "--detach"])?.contains("is aborted"));
    all_formed(lab)
}

/// Its power is cut in its turn, with the lock and with noout set: another coordinator takes that back.
fn what_a_lost_node_has_set_is_taken_back(lab: &Lab) -> Result<()> {
    let (node, lost) = (lab.node("n1")?, lab.node("n4")?);
    // It has the release, and comes first again with the next one.
    hold_after_noout(&lost)?;
    upgrade(lab, &["2999.4.1-1", "--detach"])?;
    node.until("noout is set for n4", LONG, || {
        let set = noout(&node)?;
        ensure!(set == ["n4"], "{set:?}: {}", upgrade(lab, &["--detach"])?);
        Ok(())
    })?;
    ensure!(holder(&node)? == "4", "the lock");
    let begin = Instant::now();
    lab.kill("n4")?;
    // Ceph would copy what its OSD holds after ten minutes.
    node.until("another one takes noout back", Duration::from_mins(9), || {
        let left = noout(&node)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    crate::say("noout of a node that is lost taken back", begin);
    ensure!(upgrade(lab, &["--abort", "--detach"])?.contains("is aborted"));
    lab.boot_newest("n4")?;
    all_formed(lab)
}

/// The node's program for Ceph hangs for as long as it may behind the order that sets noout, so that there is time to cut
/// the power between that and what comes next.
pub(super) fn hold_after_noout(node: &Container<'_>) -> Result<()> {
    let program = "/usr/lib/trilith/trilith-rados";
    let script = "#!/bin/sh\n/var/lib/trilith-lab/rados \"$@\" || exit\ncase \"$*\" in *\"osd set-group\"*) exec sleep 60;; esac\n";
    node.shell(&format!(
        "cp {program} /var/lib/trilith-lab/rados && printf '{}' >/var/lib/trilith-lab/slow && \
         chmod +x /var/lib/trilith-lab/* && mount --bind /var/lib/trilith-lab/slow {program} && \
         systemctl restart trilith-wave",
        script.replace('\n', "\\n")
    ))
    .map(drop)
}

/// Starts nodes that are off and shows how far the wave is, until it is as wanted; gives what `trilith upgrade` shows then.
pub(super) fn follow(
    firmware: &mut Firmware<'_>,
    what: &str,
    done: impl Fn(&Firmware<'_>, &str) -> bool,
) -> Result<String> {
    let (lab, begin, mut last) = (firmware.lab(), Instant::now(), String::new());
    while begin.elapsed() < LONG {
        for (name, version) in firmware.start()? {
            println!("{name} starts {version}");
        }
        // Whoever is asked may be restarting.
        let shown = upgrade(lab, &["--detach"]).unwrap_or_else(|error| format!("{error:#}"));
        if shown != last {
            println!("after {} s:\n{shown}", begin.elapsed().as_secs());
        }
        if done(firmware, &shown) {
            return Ok(shown);
        }
        last = shown;
        thread::sleep(LOOK);
    }
    bail!("waiting until {what}: {last}\n{}", lab.node("n1")?.last_words())
}

/// For which hosts noout is set.
pub(super) fn noout(node: &Container<'_>) -> Result<Vec<String>> {
    let dump = ceph::ask(node, "osd dump")?;
    let flags = dump["crush_node_flags"].as_object().context("no crush_node_flags")?;
    let set =
        |flags: &Value| flags.as_array().is_some_and(|all| all.iter().any(|it| it == "noout"));
    Ok(flags.iter().filter(|(_, flags)| set(flags)).map(|(host, _)| host.clone()).collect())
}

/// Who holds the lock, by the agents' account.
pub(super) fn holder(node: &Container<'_>) -> Result<String> {
    let ask = format!(
        r#"
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
own = "/run/trilith/zookeeper/"
client = KazooClient(hosts="10.30.1.1:2281", use_ssl=True, verify_certs=True, ca=own + "authority.pem",
    certfile=own + "node.pem", keyfile=own + "node.pem", auth_data=[("digest", "{}")])
client.start()
try:
    print(client.get("/trilith/upgrade/lock")[0].decode())
except NoNodeError:
    print("none")
client.stop()
"#,
        account(node)?
    );
    Ok(node.shell(&format!("python3 -c '{ask}'"))?.trim().to_owned())
}
