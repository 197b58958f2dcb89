//! Bundles that are not right: refused with a reason, nothing started, nothing overwritten.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_yaml::Value;
use tempfile::TempDir;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::lab::{Container, Lab, Spec};

const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn a_bundle_that_is_not_right_starts_nothing() -> Result<()> {
    let lab = Lab::tied(&Spec { nodes: Some(1), ..Spec::sample()? })?;
    let folder = TempDir::new()?;
    let other = Cluster::create(&artifact::cluster("lab.yaml"), folder.path())?;
    let (own, foreign) = (lab.cluster().bundle(1)?, other.bundle(1)?);

    let mut lacking: Value = serde_yaml::from_str(&own)?;
    remove(&mut lacking["secrets"], "zookeeper").context("no secret of ZooKeeper in the bundle")?;
    refused(&lab, &serde_yaml::to_string(&lacking)?, "zookeeper")?;

    let mut mixed: Value = serde_yaml::from_str(&own)?;
    let foreigner: Value = serde_yaml::from_str(&foreign)?;
    mixed["secrets"]["identity"]["certificate"] =
        foreigner["secrets"]["identity"]["certificate"].clone();
    refused(&lab, &serde_yaml::to_string(&mixed)?, "certificate")?;

    // The right one: from now on the machine is this node.
    lab.give("n1", &own)?;
    lab.start("n1")?;
    let node = lab.node("n1")?;
    node.wait_status("it has taken its bundle", PATIENCE, |status| {
        status.node.is_some()
            && status.subjects.get("network").is_some_and(|network| network.has_converged)
    })?;
    node.shell("echo kept >/var/kept && sync")?;
    lab.kill("n1")?;
    refused(&lab, &foreign, "this machine is node 1 (n1) of the cluster lab")?;
    ensure!(std::fs::read_to_string(node.var().join("kept"))? == "kept\n");
    Ok(())
}

fn remove(map: &mut Value, key: &str) -> Option<Value> {
    map.as_mapping_mut()?.remove(key)
}

/// Boots the node with this bundle, sees that it says why it does not take it and that nothing was started, and
/// switches it off.
fn refused(lab: &Lab, bundle: &str, reason: &str) -> Result<()> {
    lab.give("n1", bundle)?;
    lab.start("n1")?;
    let node = lab.node("n1")?;
    let status = node.wait_status("it refuses the bundle", PATIENCE, |status| {
        !status.bundle.problems.is_empty()
    })?;
    let problems: Vec<_> = status.bundle.problems.iter().map(ToString::to_string).collect();
    ensure!(problems.iter().any(|problem| problem.contains(reason)), "{problems:#?}");
    nothing_runs(&node)?;
    lab.kill("n1")
}

fn nothing_runs(node: &Container<'_>) -> Result<()> {
    // Until the boot is over, something could still be on its way.
    node.shell("systemctl is-system-running --wait || true")?;
    let owned = "ssh zookeeper patroni frr libvirtd chrony 'ceph-mon@*' 'ceph-osd@*'";
    let running =
        node.shell(&format!("systemctl list-units --plain --no-legend --state=active {owned}"))?;
    ensure!(running.is_empty(), "runs: {running}");
    let data = node.shell(
        "find /var/lib/zookeeper /var/lib/postgresql /var/lib/ceph -type f 2>/dev/null || true",
    )?;
    ensure!(data.is_empty(), "was made: {data}");
    Ok(())
}
