//! The other sample files, each on real links: what is derived must also work. `ci/vm --full` runs them.

use anyhow::Result;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::network::Network;
use trilith_tests::node::Node;

fn converges(sample: &str, id: u16) -> Result<()> {
    let network = Network::isolate()?;
    let cluster = Cluster::sample(&artifact::cluster(sample))?;
    let node = Node::boot(&network, &cluster, id)?;
    node.wait_booted()?;
    node.ping_all()
}

#[test]
fn a_balanced_bond_under_a_bridge() -> Result<()> {
    converges("five.yaml", 300)
}

#[test]
fn lacp_bonds_at_their_pci_paths_and_a_link_local_gateway() -> Result<()> {
    converges("eight.yaml", 8)
}
