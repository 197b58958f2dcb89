//! Releases with which a node does not come back to what it has with the others: it ends on the old one by itself, and says
//! what was missing. The other services of the node are as they were.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Result, ensure};
use trilith_core::gate;
use trilith_tests::firmware::{Firmware, upgrade};
use trilith_tests::lab::Lab;
use trilith_tests::quorums::{PATIENCE, all_formed};

use super::rolling::{BAD, FIRST, SECOND, follow, holder, noout, version};
use super::with_slots;

#[test]
fn a_node_that_does_not_come_back_to_the_others_goes_back() -> Result<()> {
    let lab = with_slots("90s")?;
    breaks(&lab, SECOND, "frr.service", 179)?;
    let why = "frr: the session with";
    ensure!(a_release_fails(&lab, SECOND, why)? == ["n4"], "it comes first");
    breaks(&lab, BAD, "patroni.service", 5432)?;
    let restarted =
        a_release_fails(&lab, BAD, "patroni: this node's Postgres led or streamed before")?;
    ensure!(restarted.len() == 2 && restarted[0] == "n4", "{restarted:?}");
    ensure!(lab.node("n4")?.status()?.version == BAD, "it has no Postgres");
    all_formed(&lab)?;
    lab.down()
}

/// Makes a release with which a service's packets to and from a port of other nodes are lost.
fn breaks(lab: &Lab, release: &str, unit: &str, port: u16) -> Result<()> {
    let mut rules = String::from("[Service]\n");
    for family in ["-4", "-6"] {
        for end in ["sport", "dport"] {
            writeln!(
                rules,
                "ExecStartPre=+/usr/sbin/ip {family} rule add pref 1 ipproto tcp {end} {port} blackhole"
            )?;
        }
    }
    lab.change(&version(release)?, &format!("etc/systemd/system/{unit}.d/broken.conf"), &rules)
}

/// A wave to it halts; who has tried it last is back on the first release after three tries, for this reason. Gives who has
/// restarted, each once.
fn a_release_fails(lab: &Lab, release: &str, why: &str) -> Result<Vec<String>> {
    let begin = Instant::now();
    upgrade(lab, &[release, "--detach"])?;
    let mut firmware = Firmware::new(lab);
    let shown = follow(&mut firmware, "the wave is halted", |_, shown| shown.contains("halted: "))?;
    println!("{shown}");
    let mut each = firmware.restarted.clone();
    each.dedup();
    let failed = each.last().cloned().unwrap_or_default();
    let boots = firmware.restarted.iter().filter(|name| **name == failed).count();
    ensure!(boots == 4, "three tries, and back: {:?}", firmware.restarted);
    ensure!(
        shown.contains(&format!("{failed}: {release} was activated, and {FIRST} runs")),
        "{shown}"
    );
    let node = lab.node(&failed)?;
    let kept = node.shell(&format!("cat {}/{}", gate::FOLDER, gate::FAILED))?;
    println!("{failed} remembers: {kept}");
    ensure!(kept.contains(why), "{kept}");
    let coordinator = lab.node("n1")?;
    coordinator.until("nothing of its turn is left", PATIENCE, || {
        ensure!(noout(&coordinator)?.is_empty() && holder(&coordinator)? == "none");
        Ok(())
    })?;
    ensure!(upgrade(lab, &["--abort", "--detach"])?.contains("is aborted"));
    crate::say(&format!("{release} failed on {failed}"), begin);
    Ok(each)
}
