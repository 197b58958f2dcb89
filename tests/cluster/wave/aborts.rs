//! A wave is aborted at any point: while nodes fetch the release, in a turn before anything boots it, and in a trial.

use anyhow::{Result, ensure};
use trilith_core::update;
use trilith_tests::firmware::{Firmware, upgrade};
use trilith_tests::lab::Lab;
use trilith_tests::quorums::{PATIENCE, all_formed};

use super::rolling::{FIRST, SECOND, follow, hold_after_noout, holder, noout};
use super::with_slots;

/// As long as it is there, what stands for the updater does not come to the end of a release.
const HOLD: &str = "/var/lib/trilith-lab/hold";

#[test]
fn a_wave_is_aborted_at_any_point() -> Result<()> {
    let lab = with_slots("10m")?;
    while_nodes_fetch_the_release(&lab)?;
    in_a_turn(&lab)?;
    in_a_trial(&lab)?;
    all_formed(&lab)?;
    lab.down()
}

fn while_nodes_fetch_the_release(lab: &Lab) -> Result<()> {
    lab.nodes().try_for_each(|node| node.shell(&format!("touch {HOLD}")).map(drop))?;
    upgrade(lab, &[SECOND, "--detach"])?;
    lab.node("n1")?.until("all fetch it", PATIENCE, || {
        let shown = upgrade(lab, &["--detach"])?;
        ensure!(shown.matches("staging it").count() == 4, "{shown}");
        Ok(())
    })?;
    abort(lab)?;
    lab.nodes().try_for_each(|node| node.shell(&format!("rm {HOLD}")).map(drop))?;
    nothing_has_changed(lab)
}

/// Its node has the lock, and noout is set for it.
fn in_a_turn(lab: &Lab) -> Result<()> {
    let (node, first) = (lab.node("n1")?, lab.node("n4")?);
    hold_after_noout(&first)?;
    upgrade(lab, &[SECOND, "--detach"])?;
    node.until("noout is set for n4", PATIENCE, || {
        let set = noout(&node)?;
        ensure!(set == ["n4"], "{set:?}: {}", upgrade(lab, &["--detach"])?);
        Ok(())
    })?;
    ensure!(holder(&node)? == "4", "the lock");
    abort(lab)?;
    nothing_has_changed(lab)?;
    first.shell("umount /usr/lib/trilith/trilith-rados && systemctl restart trilith-wave").map(drop)
}

/// Its node ends the trial; nobody else begins.
fn in_a_trial(lab: &Lab) -> Result<()> {
    upgrade(lab, &[SECOND, "--detach"])?;
    let mut firmware = Firmware::new(lab);
    follow(&mut firmware, "the first one restarts", |it, _| !it.restarted.is_empty())?;
    ensure!(upgrade(lab, &["--abort", "--detach"])?.contains("is aborted"));
    let node = lab.node("n4")?;
    node.until("it has proven itself", PATIENCE, || {
        let next = lab.next_boot("n4")?;
        ensure!(
            next.tries.is_none() && next.version().is_some_and(|it| it.as_str() == SECOND),
            "{next}"
        );
        Ok(())
    })?;
    nothing_is_left(lab)?;
    ensure!(
        firmware.start()?.is_empty() && firmware.restarted == ["n4"],
        "{:?}",
        firmware.restarted
    );
    for name in ["n1", "n2", "n3"] {
        ensure!(lab.node(name)?.status()?.version == FIRST, "{name} has begun");
    }
    Ok(())
}

fn abort(lab: &Lab) -> Result<()> {
    ensure!(upgrade(lab, &["--abort", "--detach"])?.contains("is aborted"));
    nothing_is_left(lab)
}

/// No lock, no flag in Ceph, no wish on any node.
fn nothing_is_left(lab: &Lab) -> Result<()> {
    let asked = lab.node("n1")?;
    asked.until("nothing of the wave is left", PATIENCE, || {
        ensure!(noout(&asked)?.is_empty() && holder(&asked)? == "none");
        for node in lab.nodes() {
            let wish = node.shell(&format!("ls {}", update::FOLDER))?;
            ensure!(!wish.contains(update::WISH), "{} has a wish: {wish}", node.name());
        }
        Ok(())
    })
}

/// Every node is on, and boots next what it has booted.
fn nothing_has_changed(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        let next = lab.next_boot(node.name())?;
        ensure!(node.is_on() && next.tries.is_none(), "{}: {next}", node.name());
        ensure!(next.version().is_some_and(|it| it.as_str() == FIRST), "{}: {next}", node.name());
    }
    Ok(())
}
