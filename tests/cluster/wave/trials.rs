//! Releases with which a node does not come back to what it has with the others: it ends on the old one by itself, and says
//! what was missing. The other services of the node are as they were.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Result, ensure};
use trilith_core::gate::{self, FailedList};
use trilith_tests::firmware::{Firmware, upgrade};
use trilith_tests::lab::Lab;
use trilith_tests::quorums::{PATIENCE, all_formed};

use super::rolling::{FIRST, SECOND, follow, holder, noout, version};
use super::with_slots;

#[test]
fn a_node_whose_sessions_are_not_established_goes_back() -> Result<()> {
    let lab = with_slots("90s")?;
    breaks(&lab, "frr.service", 179)?;
    let restarted = a_release_fails(&lab, "frr: the session with")?;
    ensure!(restarted == ["n4"], "it comes first: {restarted:?}");
    lab.down()
}

#[test]
fn a_node_whose_postgres_does_not_stream_goes_back() -> Result<()> {
    let lab = with_slots("90s")?;
    breaks(&lab, "patroni.service", 5432)?;
    let restarted = a_release_fails(&lab, "patroni: this node's Postgres led or streamed before")?;
    ensure!(restarted.len() == 2 && restarted[0] == "n4", "{restarted:?}");
    ensure!(lab.node("n4")?.status()?.version == SECOND, "it has no Postgres");
    lab.down()
}

/// With the second release a service's packets to and from a port of other nodes are lost.
fn breaks(lab: &Lab, unit: &str, port: u16) -> Result<()> {
    let mut rules = String::from("[Service]\n");
    for family in ["-4", "-6"] {
        for end in ["sport", "dport"] {
            writeln!(
                rules,
                "ExecStartPre=+/usr/sbin/ip {family} rule add pref 1 ipproto tcp {end} {port} blackhole"
            )?;
        }
    }
    lab.change(&version(SECOND)?, &format!("etc/systemd/system/{unit}.d/broken.conf"), &rules)
}

/// A wave halts; who has tried the release last is back on the first one after three tries, for this reason. Gives who has
/// restarted, each once.
fn a_release_fails(lab: &Lab, why: &str) -> Result<Vec<String>> {
    let begin = Instant::now();
    upgrade(lab, &[SECOND, "--detach"])?;
    let mut firmware = Firmware::new(lab);
    let back = format!("{SECOND} was activated, and {FIRST} runs: ");
    let shown = follow(&mut firmware, "the wave is halted", |_, shown| {
        shown.contains("halted: ") && shown.contains(&back)
    })?;
    let mut each = firmware.restarted.clone();
    each.dedup();
    let failed = each.last().cloned().unwrap_or_default();
    let boots = firmware.restarted.iter().filter(|name| **name == failed).count();
    ensure!(boots == 4, "three tries, and back: {:?}", firmware.restarted);
    ensure!(shown.contains(&format!("{failed}: {back}")), "{shown}");
    let node = lab.node(&failed)?;
    let kept = node.shell(&format!("cat {}/{}", gate::FOLDER, gate::FAILED))?;
    println!("{failed} remembers: {kept}");
    ensure!(FailedList::parse(&kept)?.all().iter().any(|it| it.why.contains(why)), "{kept}");
    let coordinator = lab.node("n1")?;
    coordinator.until("nothing of its turn is left", PATIENCE, || {
        ensure!(noout(&coordinator)?.is_empty() && holder(&coordinator)? == "none");
        Ok(())
    })?;
    ensure!(upgrade(lab, &["--abort", "--detach"])?.contains("is aborted"));
    crate::say(&format!("{failed} is back on {FIRST}"), begin);
    all_formed(lab)?;
    Ok(each)
}
