//! The agent's own tests of the network adapter, on the kernel of the image: the host's may lack bonds and VLANs.

use std::env;
use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use trilith_tests::command::{run, tail};
use trilith_tests::node::Node;

/// Copies the test binary to the node and runs all its namespace tests there, also those that the host cannot.
pub(crate) fn the_adapters_tests_pass_here(node: &Node<'_>) -> Result<()> {
    let binary = env::var_os("TRILITH_AGENT_TESTS").map(PathBuf::from);
    let binary =
        binary.context("TRILITH_AGENT_TESTS names no test binary of the agent: ci/vm sets it")?;
    let binary =
        File::open(&binary).with_context(|| format!("cannot open {}", binary.display()))?;
    run(node
        .ssh_command()?
        .stdin(binary)
        .arg("cat >/run/agent-tests && chmod +x /run/agent-tests"))?;
    // Bonds without the one that the module makes by itself in each namespace.
    node.ssh("modprobe bonding max_bonds=0 && modprobe -a 8021q bridge veth dummy")?;
    let said = node
        .ssh("/run/agent-tests netns:: --include-ignored --test-threads=1; rm /run/agent-tests")?;
    let summary = said.lines().rfind(|line| line.starts_with("test result: ")).unwrap_or_default();
    eprintln!("in the machine: {summary}");
    ensure!(
        summary.starts_with("test result: ok. ") && !summary.contains(" 0 passed"),
        "{}",
        tail(&said, 60)
    );
    Ok(())
}
