//! A person who looks at a node with the operator's certificate, and those who may not.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use trilith_core::diagnosis::disks::Disk;
use trilith_core::diagnosis::net::Net;
use trilith_core::status::NodeStatus;
use trilith_tests::command::{output, run};
use trilith_tests::lab::{Container, Lab, Spec};

use crate::closed::secrets_of;

/// How long a node may take until its network stands.
const BOOT: Duration = Duration::from_mins(1);

#[test]
fn an_operator_sees_everything_but_secrets_and_a_node_sees_nothing() -> Result<()> {
    let lab = Lab::tied(&Spec { nodes: Some(1), ..Spec::sample()? })?;
    lab.start("n1")?;
    let node = lab.node("n1")?;
    node.wait_status("its network stands", BOOT, |status| {
        status.subjects.get("network").is_some_and(|network| network.has_converged)
    })?;
    lab.cluster().make_operator(&[])?;
    // The firewall opens a moment after the network stands.
    let status = node.until("it answers", BOOT, || look(&lab, &["status", "--json"]))?;
    let status: NodeStatus = serde_json::from_str(&status)?;
    ensure!(status.node.is_some_and(|node| node.name == "n1"));
    let text = look(&lab, &["status"])?;
    ensure!(text.starts_with("node n1 (ID 1) of cluster "), "{text}");
    println!("{text}\n{}", look(&lab, &["net"])?);
    let net: Net = serde_json::from_str(&look(&lab, &["net", "--json"])?)?;
    ensure!(net.addresses.iter().any(|one| one.address.addr().to_string() == "10.30.0.1"));
    println!("{}", look(&lab, &["disks"])?);
    let disks: Vec<Disk> = serde_json::from_str(&look(&lab, &["disks", "--json"])?)?;
    println!("{} disks", disks.len());
    the_journal_comes_and_goes_on(&lab, &node)?;
    a_support_bundle_holds_no_secret(&lab, &node)?;
    a_node_is_no_operator(&lab, &node)
}

/// `trilith node n1 WORDS…` from a neighbour on upstream.
fn look(lab: &Lab, words: &[&str]) -> Result<String> {
    lab.inside(|| run(&mut lab.cluster().look("n1", words)?))
}

fn the_journal_comes_and_goes_on(lab: &Lab, node: &Container<'_>) -> Result<()> {
    let text = look(lab, &["logs", "--unit", "trilithd.service", "--lines", "1000"])?;
    ensure!(text.contains("trilithd starts") && text.contains("operator:alice looks"), "{text}");
    let mut command = lab.cluster().look("n1", &["logs", "--follow", "--lines", "0"])?;
    let mut follower = lab.inside(|| Ok(command.stdout(Stdio::piped()).spawn()?))?;
    let lines = BufReader::new(follower.stdout.take().context("it has no output")?).lines();
    // It listens when its journalctl runs.
    node.until("it follows", BOOT, || run(&mut journalctl(node)?))?;
    node.shell("echo followed as it comes | systemd-cat --identifier=test")?;
    let found = lines.map_while(Result::ok).find(|line| line.contains("followed as it comes"));
    ensure!(found.is_some(), "the follower ended");
    follower.kill()?;
    follower.wait()?;
    node.until("nothing is left of it on the node", BOOT, || {
        ensure!(output(&mut journalctl(node)?)?.stdout.is_empty());
        Ok(())
    })
}

/// Finds a journalctl on the node.
fn journalctl(node: &Container<'_>) -> Result<std::process::Command> {
    let mut find = node.command("pgrep")?;
    find.args(["--exact", "journalctl"]);
    Ok(find)
}

/// Also one that lies where it should not: in the journal.
fn a_support_bundle_holds_no_secret(lab: &Lab, node: &Container<'_>) -> Result<()> {
    let secrets = secrets_of(lab, node)?;
    let folder = tempfile::TempDir::new()?;
    let slip = folder.path().join("slip");
    let slips: Vec<String> =
        secrets.iter().map(|secret| format!("slip of {secret} the pen")).collect();
    fs::write(&slip, slips.join("\n") + "\n")?;
    run(node.command("systemd-cat")?.arg("--identifier=test").stdin(fs::File::open(&slip)?))?;
    node.until("the journal has them", BOOT, || {
        let text = look(lab, &["logs", "--lines", "1000"])?;
        ensure!(text.contains("slip of [secret] the pen"), "{text}");
        ensure!(secrets.iter().all(|secret| !text.contains(secret)));
        Ok(())
    })?;
    let path = folder.path().join("bundle.tar.zst");
    look(lab, &["support-bundle", "--output", &path.display().to_string()])?;
    let packed = fs::read(&path)?;
    let tar = zstd::decode_all(packed.as_slice())?;
    let text = String::from_utf8_lossy(&tar);
    for part in ["status.json", "journal.txt", "frr.conf", "slip of [secret] the pen", "ID=debian"]
    {
        ensure!(text.contains(part), "the bundle has no {part}");
    }
    let found = secrets.iter().filter(|secret| text.contains(*secret)).count();
    ensure!(found == 0, "{found} of {} secrets are in the bundle", secrets.len());
    println!("support bundle: {} KiB, {} KiB packed", tar.len() >> 10, packed.len() >> 10);
    Ok(())
}

/// The node's own certificate, as anybody has it who got at the node.
fn a_node_is_no_operator(lab: &Lab, node: &Container<'_>) -> Result<()> {
    let own = "cd /run/trilith/libvirt && cat serverkey.pem servercert.pem cacert.pem";
    let folder = tempfile::TempDir::new()?;
    let path = folder.path().join("node.pem");
    node.until("its certificate is there", BOOT, || Ok(fs::write(&path, node.shell(own)?)?))?;
    let path = path.display().to_string();
    let mut command = lab.cluster().look("n1", &["status"])?;
    let refused = lab.inside(|| output(command.args(["--operator", &path])))?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("not an operator's"), "{said}");
    Ok(())
}
