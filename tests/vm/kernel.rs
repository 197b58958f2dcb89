//! Unit tests once more, on the kernel of the image: the host's may lack bonds, VLANs and FAT.

use std::env;
use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use trilith_tests::command::{run, tail};
use trilith_tests::node::Node;

/// All namespace tests of the agent, also those that the host cannot run.
pub(crate) fn the_adapters_tests_pass_here(node: &Node<'_>) -> Result<()> {
    // Bonds without the one that the module makes by itself in each namespace.
    node.ssh("modprobe bonding max_bonds=0 && modprobe -a 8021q bridge veth dummy")?;
    pass(node, "TRILITH_AGENT_TESTS", "", "netns:: --include-ignored --test-threads=1")
}

/// What puts the boot loader and the system onto an ESP and marks it as proven, on a real FAT file system, which has no fault afterwards.
pub(crate) fn an_esp_is_written_on_fat(node: &Node<'_>) -> Result<()> {
    node.ssh("cd /run && truncate -s 64M fat && mkfs.vfat fat && mkdir fat.d && mount fat fat.d")?;
    pass(node, "TRILITH_METAL_TESTS", "TMPDIR=/run/fat.d", "esp:: trial:: --test-threads=1")?;
    node.ssh("cd /run && umount fat.d && fsck.vfat -n fat && rm -r fat fat.d").map(drop)
}

/// Copies the test binary that the variable names to the node, and runs some of its tests there.
fn pass(node: &Node<'_>, variable: &str, settings: &str, arguments: &str) -> Result<()> {
    let binary = env::var_os(variable).map(PathBuf::from);
    let binary =
        binary.with_context(|| format!("{variable} names no test binary: ci/vm sets it"))?;
    let file = File::open(&binary).with_context(|| format!("cannot open {}", binary.display()))?;
    run(node.ssh_command()?.stdin(file).arg("cat >/run/tests && chmod +x /run/tests"))?;
    let said = node.ssh(&format!("{settings} /run/tests {arguments}; rm /run/tests"))?;
    let summary = said.lines().rfind(|line| line.starts_with("test result: ")).unwrap_or_default();
    eprintln!("in the machine: {summary}");
    ensure!(
        summary.starts_with("test result: ok. ") && !summary.contains(" 0 passed"),
        "{}",
        tail(&said, 60)
    );
    Ok(())
}
