//! The power of the whole site is cut in the middle of a wave, again and again: at most one node starts what is not proven,
//! and the wave goes on by itself. One that comes back to nobody waits, and its time does not count.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use trilith_core::gate::{RUN, STATE, Said, Stand, Verdict};
use trilith_tests::firmware::{Firmware, upgrade};
use trilith_tests::lab::{Container, Lab};
use trilith_tests::quorums::{PATIENCE, all_formed};

use super::rolling::{FIRST, SECOND, follow, holder, noout};
use super::with_slots;

/// How long a node may take to prove a release: longer than a cluster takes to form anew here.
const TRIAL: Duration = Duration::from_mins(3);

#[test]
fn a_site_loses_its_power_in_mid_wave() -> Result<()> {
    let lab = with_slots("3m")?;
    upgrade(&lab, &[SECOND, "--detach"])?;
    let begin = Instant::now();
    let mut firmware = Firmware::new(&lab);
    follow(&mut firmware, "the first one is on trial", |it, _| it.restarted.len() == 1)?;
    ensure!(cut_the_power(&lab)? == ["n4"]);
    // The coordinators are as they were before.
    ensure!(start_all(&lab)? == [FIRST, FIRST, FIRST, SECOND]);
    all_formed(&lab)?;

    let node = lab.node("n1")?;
    let turn = |it: &Firmware<'_>, shown: &str| {
        shown.contains(&format!("n4: runs {SECOND}, rests"))
            && (it.restarted.len() > 1 || noout(&node).is_ok_and(|set| !set.is_empty()))
    };
    follow(&mut firmware, "a coordinator has its turn", turn)?;
    println!("cut in a turn: {:?} would start what is not proven", cut_the_power(&lab)?);
    start_all(&lab)?;
    all_formed(&lab)?;

    let on_trial = |_: &Firmware<'_>, _: &str| lab.nodes().any(|it| on_trial(&it).is_some());
    follow(&mut firmware, "a coordinator is on trial", on_trial)?;
    let unproven = cut_the_power(&lab)?;
    println!("cut in a trial: {unproven:?} would start what is not proven");
    let alone = unproven.first().context("nobody was on trial")?;
    a_night_without_the_others(&lab, alone)?;
    firmware.restarted.clear();
    start_all(&lab)?;
    follow(&mut firmware, "the wave is over", |_, shown| {
        shown.contains(&format!("wave: all nodes run {SECOND}"))
    })?;
    ensure!(
        !firmware.restarted.contains(alone),
        "{alone} needed another try: {:?}",
        firmware.restarted
    );
    ensure!(noout(&node)?.is_empty() && holder(&node)? == "none");
    crate::say("a wave and three power cuts of the site", begin);
    all_formed(&lab)?;
    lab.down()
}

/// All at the same moment. Gives who would start a release that is not proven now: one at most.
fn cut_the_power(lab: &Lab) -> Result<Vec<String>> {
    let on: Vec<&str> = lab.nodes().filter(Container::is_on).map(|node| node.name()).collect();
    thread::scope(|scope| {
        let cuts: Vec<_> = on.iter().map(|name| scope.spawn(|| lab.kill(name))).collect();
        cuts.into_iter().try_for_each(|cut| cut.join().map_err(|_| anyhow!("a panic"))?)
    })?;
    let mut unproven = Vec::new();
    for name in lab.names() {
        if lab.next_boot(name)?.tries.is_some() {
            unproven.push(name.to_owned());
        }
    }
    ensure!(unproven.len() <= 1, "{unproven:?} would start what is not proven");
    Ok(unproven)
}

/// Starts all that are off; gives the release of each of these, in order of their names.
fn start_all(lab: &Lab) -> Result<Vec<String>> {
    let off: Vec<&str> =
        lab.names().into_iter().filter(|name| lab.node(name).is_ok_and(|it| !it.is_on())).collect();
    let start = |name| lab.boot_newest(name).map(|version| version.to_string());
    off.into_iter().map(start).collect()
}

/// It comes back to nobody, and waits for longer than a trial may take: no other try is used up.
fn a_night_without_the_others(lab: &Lab, name: &str) -> Result<()> {
    lab.boot_newest(name)?;
    let (node, tries) = (lab.node(name)?, lab.next_boot(name)?.tries);
    let verdict = node.until("nothing can be said of it", PATIENCE, || unknown(&node))?;
    println!("{name} alone: {verdict:?}");
    node.until("it is up for longer than a trial", TRIAL * 2, || {
        let up = node.shell("cat /proc/uptime")?;
        let up: f64 = up.split(' ').next().context("no time")?.parse()?;
        ensure!(up > TRIAL.as_secs_f64() + 20.0, "it is up for {up} s");
        unknown(&node)
    })?;
    ensure!(lab.next_boot(name)?.tries == tries, "it has used up a try");
    Ok(())
}

fn unknown(node: &Container<'_>) -> Result<Verdict> {
    let verdict = on_trial(node).context("it is not on trial")?;
    ensure!(matches!(verdict, Verdict::Inconclusive { .. }), "{verdict:?}");
    Ok(verdict)
}

/// What the gate says of a node that is on trial.
fn on_trial(node: &Container<'_>) -> Option<Verdict> {
    let text = node.shell(&format!("cat {RUN}/{STATE}")).ok()?;
    match Said::parse(&text).ok()?.stand {
        Stand::Trial { verdict, .. } => Some(verdict),
        Stand::Old | Stand::Proven => None,
    }
}
