//! How fast the agent brings a network up.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::network::Network;
use trilith_tests::node::Node;

use crate::networkd;
use crate::table::{Table, median, seconds};

/// How long a script in the guest may take: without KVM everything is ten times slower.
const PATIENCE: Duration = Duration::from_mins(20);

/// Boots the sample with bonds and VLANs and measures in it.
pub(crate) fn figures(table: &mut Table, rounds: usize) -> Result<()> {
    let network = Network::isolate()?;
    let cluster = Cluster::sample(&artifact::cluster("bonds.yaml"))?;
    let node = Node::boot(&network, &cluster, 1)?;
    node.wait_booted()?;
    for (name, text) in networkd::files(cluster.node(1)?) {
        put(&node, &format!("/run/systemd/network/{name}"), &text)?;
    }
    convergence(table, &node, rounds)
}

fn convergence(table: &mut Table, node: &Node<'_>, rounds: usize) -> Result<()> {
    let said = script(node, "rounds", include_str!("guest/rounds"), &rounds.to_string())?;
    let agent = samples(&said, "agent")?;
    let networkd = samples(&said, "networkd")?;
    table.add("config to network converged, trilithd", &seconds(&agent), "");
    table.add("config to network converged, systemd-networkd", &seconds(&networkd), "");
    let ratio = median(agent) / median(networkd);
    table.add("  trilithd : systemd-networkd", &format!("{ratio:.2}"), "1.00");
    Ok(())
}

/// Lines `who before after`, as seconds from before to after.
fn samples(said: &str, who: &str) -> Result<Vec<f64>> {
    let mine = said.lines().filter_map(|line| line.strip_prefix(who));
    let samples: Result<Vec<f64>> = mine
        .map(|line| {
            let (before, after) = line.trim().split_once(' ').context("not two numbers")?;
            Ok(after.parse::<f64>()? - before.parse::<f64>()?)
        })
        .collect();
    samples.with_context(|| format!("the script said {said:?}"))
}

/// Runs a script on the node as a unit of its own, which outlives the network, and returns its output.
fn script(node: &Node<'_>, name: &str, text: &str, arguments: &str) -> Result<String> {
    let path = format!("/run/bench/{name}");
    put(node, &path, text)?;
    let said = format!("{path}.out");
    let mark = node.console().mark();
    // The console tells the end, so that nothing asks over the network while it is measured.
    node.ssh(&format!(
        "systemd-run --quiet --collect sh -c 'sh {path} {arguments} > {said} 2>&1; echo end $? >> {said}; echo bench: {name} ended > /dev/ttyS0'"
    ))?;
    node.console().wait_after(mark, &format!("bench: {name} ended"), PATIENCE)?;
    let output =
        node.console().until("the node answers", PATIENCE, || node.ssh(&format!("cat {said}")))?;
    let Some(output) = output.strip_suffix("end 0\n") else {
        bail!("{name} on the node: {output}")
    };
    Ok(output.to_owned())
}

fn put(node: &Node<'_>, path: &str, text: &str) -> Result<()> {
    let text = BASE64_STANDARD.encode(text);
    node.ssh(&format!("mkdir -p $(dirname {path}) && echo {text} | base64 -d > {path}")).map(drop)
}
