//! An image with an operator's own additions (tests/site), and what such an operator may do to a node.
//! `ci/vm --full` builds it and runs this.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::machine::REACTION;
use trilith_tests::network::Network;
use trilith_tests::node::Node;

/// The image with the additions. It is an older release than the other.
pub(crate) fn image() -> Result<PathBuf> {
    env::var_os("TRILITH_SITE_IMAGE")
        .map(PathBuf::from)
        .context("TRILITH_SITE_IMAGE does not name the image: run `ci/vm --full`")
}

#[test]
fn additions_are_there_and_an_emergency_reboots() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    let mut node = Node::boot_image(&network, &cluster, 1, image()?)?;
    node.wait_booted()?;
    node.ssh("htop --version").context("the package")?;
    let arguments = node.ssh("cat /proc/cmdline")?;
    ensure!(arguments.contains(" mitigations=auto,nosmt"), "{arguments}");
    let unit = node.ssh("systemctl is-active site-greeting.service; cat /etc/site-greeting")?;
    ensure!(unit == "active\nhello from the site folder\n", "{unit}");
    an_emergency_reboots(&mut node)
}

/// Nobody sits at the console: it says why, and the machine starts again.
fn an_emergency_reboots(node: &mut Node<'_>) -> Result<()> {
    node.ssh("systemctl --no-block emergency")?;
    node.console().wait("this boot has failed (emergency)", REACTION)?;
    node.machine().wait_reset(REACTION)
}
