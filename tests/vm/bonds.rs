//! Bonds and VLANs, NICs pulled and put back.

use anyhow::Result;
use trilith_core::status::State;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::machine::REACTION;
use trilith_tests::network::Network;
use trilith_tests::node::Node;

#[test]
fn bonds_and_vlans_converge_and_heal() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = Cluster::sample(&artifact::cluster("bonds.yaml"))?;
    let mut node = Node::boot(&network, &cluster, 1)?;
    node.wait_booted()?;
    node.ping_all()?;

    // Each port of the bond in turn, so that the active one is among them whichever it is.
    for port in [0, 1] {
        a_pulled_nic_is_named_and_taken_back(&mut node, port)?;
    }
    for port in [0, 1] {
        node.machine().set_cable(port, false)?;
        everything_answers(&node)?;
        node.machine().set_cable(port, true)?;
        node.wait_converged()?;
        everything_answers(&node)?;
    }
    Ok(())
}

fn a_pulled_nic_is_named_and_taken_back(node: &mut Node<'_>, port: usize) -> Result<()> {
    node.machine().pull(port)?;
    node.wait_status("the status names the missing NIC", |status| {
        status
            .subjects
            .get("network")
            .is_some_and(|network| matches!(network.state, State::Degraded { .. }))
    })?;
    everything_answers(node)?;
    node.machine().put_back(port)?;
    node.wait_converged()?;
    // Not only in the end: a port that joins must not draw the bond's traffic to itself.
    node.ping_all()
}

/// A switch learns the new way from the next frames, so that the first pings may be lost; all must come back.
fn everything_answers(node: &Node<'_>) -> Result<()> {
    node.console().until("every address answers", REACTION, || node.ping_all())
}
