//! Where Ceph stands, by its agents and by its own tools.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trilith_core::status::{NodeStatus, State};

use super::{PATIENCE, subject};
use crate::lab::{Container, Lab};

/// The pool for the disks of machines.
const POOL: &str = "machines";

/// Waits until the monitors of these nodes are in a quorum.
pub fn monitors_serve(lab: &Lab, members: &[&str]) -> Result<()> {
    for name in members {
        lab.node(name)?.wait_status("its monitor is in the quorum", PATIENCE, |status| {
            subject(status, "ceph").is_ok_and(|ceph| ceph.details.role.is_some())
        })?;
    }
    Ok(())
}

/// Waits until these coordinators' monitors, and no other, are the quorum, there is a manager, at least so many OSDs are
/// up and in, and the pool for machines gives back what is written to it.
pub fn storage_serves(lab: &Lab, members: &[&str], osds: usize) -> Result<()> {
    monitors_serve(lab, members)?;
    let asked = lab.node(members.first().context("no member")?)?;
    asked.until("Ceph has its quorum, a manager and its OSDs", PATIENCE, || {
        complete(&ask(&asked, "status")?, members, u64::try_from(osds)?)
    })?;
    asked.until("the pool is there", PATIENCE, || {
        asked.shell(&format!("timeout 20 rados lspools | grep -qx {POOL}"))
    })?;
    write(&asked, "probe", "written")?;
    ensure!(read(&asked, "probe")? == "written", "the pool does not give back what it was given");
    Ok(())
}

fn complete(status: &Value, members: &[&str], osds: u64) -> Result<()> {
    let names = status["quorum_names"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut quorum: Vec<_> = names.collect();
    quorum.sort_unstable();
    let mut members = members.to_vec();
    members.sort_unstable();
    let count = |key: &str| status["osdmap"][key].as_u64().unwrap_or_default();
    let manager = &status["mgrmap"]["available"];
    ensure!(
        quorum == members
            && manager == true
            && count("num_up_osds") >= osds
            && count("num_in_osds") >= osds,
        "quorum {quorum:?}, manager {manager}, OSDs {}",
        status["osdmap"]
    );
    Ok(())
}

/// Waits until the OSDs of a node say that they are active.
pub fn osds_are_active(node: &Container<'_>) -> Result<()> {
    let active = |status: &NodeStatus| {
        subject(status, "osds").is_ok_and(|osds| osds.state == State::Converged)
    };
    node.wait_status("its OSDs are active", PATIENCE, active).map(drop)
}

/// What the monitors say, by Ceph's own tool.
pub fn ask(node: &Container<'_>, command: &str) -> Result<Value> {
    let text =
        node.shell(&format!("timeout 30 ceph --connect-timeout 20 {command} --format json"))?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// Writes an object into the pool for machines.
pub fn write(node: &Container<'_>, object: &str, text: &str) -> Result<()> {
    let line = format!("printf %s '{text}' | timeout 120 rados --pool {POOL} put '{object}' -");
    node.shell(&line).map(drop)
}

/// Reads an object of the pool for machines.
pub fn read(node: &Container<'_>, object: &str) -> Result<String> {
    node.shell(&format!("timeout 120 rados --pool {POOL} get '{object}' -"))
}
