//! Bundles that are refused, and the bundle that is kept.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use trilith_core::status::{NodeStatus, State};
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::lab::{Container, Lab, Spec};

/// How long a node may take from power-on until its agent has read its bundle and the network stands.
const BOOT: Duration = Duration::from_mins(1);

/// The encrypted bundle and the machine's belonging, in the node's /var.
const REMEMBERED: [&str; 2] = ["lib/trilith/bundle.cred", "lib/trilith/belonging.yaml"];

fn lab() -> Result<Lab> {
    Lab::tied(&Spec { nodes: Some(1), ..Spec::sample()? })
}

fn network_stands(status: &NodeStatus) -> bool {
    status.subjects.get("network").is_some_and(|network| network.has_converged)
}

fn remembered(node: &Container<'_>) -> Vec<Option<Vec<u8>>> {
    REMEMBERED.map(|name| fs::read(node.var().join(name)).ok()).into()
}

/// What the agent says is wrong with the bundle, all of it.
fn complaints(status: &NodeStatus) -> String {
    status.bundle.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// It is kept at the first boot, carries a boot without any, and a bundle of another cluster changes nothing.
#[test]
fn a_machine_stays_the_node_that_it_is() -> Result<()> {
    let lab = lab()?;
    let node = lab.node("n1")?;
    lab.start("n1")?;
    node.wait_status("the bundle is kept", BOOT, |status| {
        network_stands(status) && remembered(&node).iter().all(Option::is_some)
    })?;
    let before = remembered(&node);

    lab.kill("n1")?;
    lab.give("n1", None)?;
    lab.start("n1")?;
    let status = node.wait_status("it boots without a bundle", BOOT, network_stands)?;
    ensure!(status.bundle.source.as_deref() == Some("/var/lib/trilith/bundle.cred"), "{status:#?}");
    ensure!(status.bundle.problems.is_empty(), "{}", complaints(&status));

    let other = Cluster::sample(&artifact::cluster("lab.yaml"))?;
    let own = lab.cluster().bundle(1)?;
    for (bundle, reasons) in [
        (
            other.bundle(1)?,
            ["this machine is node 1 (n1) of the cluster lab with the fsid", "erase its disks"],
        ),
        (forged(&own, &other)?, ["an authority that this machine does not know", "rotate"]),
        (own.replace("mtu: 1500", "mtu: 1400"), ["the bundle was changed after", "signed"]),
    ] {
        lab.kill("n1")?;
        lab.give("n1", Some(&bundle))?;
        lab.start("n1")?;
        let status = node.wait_status("the last good bundle goes on", BOOT, network_stands)?;
        let said = complaints(&status);
        ensure!(reasons.iter().all(|reason| said.contains(reason)), "{said}");
        let source = status.bundle.source.as_deref();
        ensure!(source == Some("/var/lib/trilith/bundle.cred"), "{status:#?}");
        let journal = node.shell("journalctl --unit trilithd --boot --output cat")?;
        ensure!(journal.contains(reasons[0]), "{journal}");
        ensure!(remembered(&node) == before, "it was overwritten");
    }
    Ok(())
}

/// The node's own bundle with the authority, the certificate and the key of another cluster's, signed there: it says
/// that it is for this node of this cluster.
fn forged(own: &str, other: &Cluster) -> Result<String> {
    let mut bundle: serde_yaml::Value = serde_yaml::from_str(own)?;
    let theirs: serde_yaml::Value = serde_yaml::from_str(&other.bundle(1)?)?;
    bundle["secrets"]["identity"] = theirs["secrets"]["identity"].clone();
    other.sign(&serde_yaml::to_string(&bundle)?)
}

/// A new machine does nothing at all by a bundle that is not whole, and says which secret is wrong.
#[test]
fn a_bundle_that_is_not_whole_starts_nothing() -> Result<()> {
    let lab = lab()?;
    let node = lab.node("n1")?;
    let good = lab.cluster().bundle(1)?;
    let without = |key: &str| -> String {
        good.split_inclusive('\n').filter(|line| !line.trim_start().starts_with(key)).collect()
    };
    let other = Cluster::sample(&artifact::cluster("lab.yaml"))?.bundle(1)?;
    let sign = |bundle: &str| lab.cluster().sign(bundle);
    for (bundle, reason) in [
        (good.replace("mtu: 1500", "mtu: 1400"), "the bundle was changed after"),
        (good.split_inclusive('\n').skip(1).collect(), "the bundle is not signed"),
        (good[..good.len() / 2].to_owned(), "the bundle cannot be read"),
        (without("bgp: "), "missing field `bgp`"),
        (sign(&without("mon.: "))?, "secret ceph.keys.mon.: is missing, and this node uses it"),
        (
            sign(&with_certificate_of(&good, &other)?)?,
            "secret identity.certificate: is not signed by the cluster's authority",
        ),
        (
            sign(&with_certificate_of(&good, &lab.cluster().bundle(2)?)?)?,
            "secret identity.certificate: is not this node's: its subject is not CN=n1.lab.example.net",
        ),
        (good.replacen("version: 3", "version: 1", 1), "this program reads version 3"),
    ] {
        lab.give("n1", Some(&bundle))?;
        lab.start("n1")?;
        let refused = |status: &NodeStatus| !status.bundle.problems.is_empty();
        let status = node.wait_status("the bundle is refused", BOOT, refused)?;
        ensure!(complaints(&status).contains(reason), "{}", complaints(&status));
        nothing_is_started(&node, &status)?;
        lab.kill("n1")?;
    }
    lab.give("n1", Some(&good))?;
    lab.start("n1")?;
    node.wait_status("the whole bundle is taken", BOOT, network_stands).map(drop)
}

fn nothing_is_started(node: &Container<'_>, status: &NodeStatus) -> Result<()> {
    let waiting = |state: &State| matches!(state, State::Waiting { .. });
    ensure!(status.node.is_none() && status.bundle.source.is_none(), "{status:#?}");
    ensure!(status.subjects.values().all(|subject| waiting(&subject.state)), "{status:#?}");
    let addresses = node.shell("ip -oneline address show scope global")?;
    ensure!(addresses.is_empty(), "{addresses}");
    ensure!(remembered(node).iter().all(Option::is_none), "a refused bundle is remembered");
    Ok(())
}

/// A bundle with the certificate and the key of another.
fn with_certificate_of(bundle: &str, other: &str) -> Result<String> {
    let mut bundle: serde_yaml::Value = serde_yaml::from_str(bundle)?;
    let other: serde_yaml::Value = serde_yaml::from_str(other)?;
    for part in ["certificate", "key"] {
        bundle["secrets"]["identity"][part] = other["secrets"]["identity"][part].clone();
    }
    Ok(serde_yaml::to_string(&bundle)?)
}
