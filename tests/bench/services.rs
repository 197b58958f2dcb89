//! How soon a killed service is noticed and runs again, and one that somebody has stopped by hand.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use trilith_tests::lab::{Container, Lab, Spec, now};
use trilith_tests::quorums::{PATIENCE, all_formed, start};

use crate::table::{Table, milliseconds, seconds};

/// What runs on a coordinator.
const UNITS: [&str; 5] =
    ["zookeeper.service", "patroni.service", "frr.service", "libvirtd.service", "ssh.service"];

/// Kills each of them on a coordinator of a formed cluster, and stops one, `rounds` times.
pub(crate) fn figures(table: &mut Table, rounds: usize) -> Result<()> {
    let lab = Lab::tied(&Spec::sample()?)?;
    start(&lab, &lab.names())?;
    all_formed(&lab)?;
    let node = lab.node("n1")?;
    for unit in UNITS {
        let (mut noticed, mut back) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let killed = killed(&node, unit)?;
            noticed.push(killed.0);
            back.push(killed.1);
            all_formed(&lab)?;
        }
        table.add(&format!("{unit} killed, noticed"), &milliseconds(&noticed), "100 ms");
        table.add(&format!("{unit} killed, active again"), &seconds(&back), "");
    }
    let mut noticed = Vec::new();
    for _ in 0..rounds {
        noticed.push(stopped(&node)?);
    }
    table.add("ssh.service stopped by hand, noticed", &milliseconds(&noticed), "1000 ms");
    Ok(())
}

/// Kills a unit's main process: seconds until the agent says so, and until systemd calls the unit active again.
fn killed(node: &Container<'_>, unit: &str) -> Result<(f64, f64)> {
    let old = node.main_pid(unit)?;
    // The time is the node's own, taken in the moment before.
    let killed = node.shell(&format!("date +%s%6N && kill -9 {old}"))?;
    let killed = Duration::from_micros(killed.trim().parse().context("no time")?);
    // The same moment by the clock that systemd has for its units, which is one for this host and its containers.
    let begin = monotonic()?.saturating_sub(now()?.saturating_sub(killed));
    let noticed = node.said(killed, unit, PATIENCE)?;
    let back = node.until(&format!("{unit} is active again"), PATIENCE, || {
        ensure!(node.main_pid(unit)? != old && node.property(unit, "ActiveState")? == "active");
        let active = node.property(unit, "ActiveEnterTimestampMonotonic")?;
        let active = Duration::from_micros(active.parse().context("no time")?);
        active.checked_sub(begin).context("it is the time before")
    })?;
    Ok((noticed.as_secs_f64(), back.as_secs_f64()))
}

fn monotonic() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?))
}

/// Stops the SSH server as an administrator does: seconds until the agent starts it.
fn stopped(node: &Container<'_>) -> Result<f64> {
    let begin = now()?;
    node.shell("systemctl stop ssh.service")?;
    let noticed = node.said(begin, "start ssh.service", PATIENCE)?;
    node.until("it runs again", PATIENCE, || node.main_pid("ssh.service"))?;
    Ok(noticed.as_secs_f64())
}
