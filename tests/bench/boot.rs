//! From power-on to a converged node, against a bare Debian's way from power-on to its login.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use trilith_tests::artifact;
use trilith_tests::cluster::{Cluster, cable};
use trilith_tests::command::run;
use trilith_tests::machine::{BOOT, Disk, Machine, Nic, Spec};
use trilith_tests::network::Network;

use crate::table::{Table, median, seconds};

/// Boots both in turns, in the same machine with the same NICs.
pub(crate) fn figures(table: &mut Table, rounds: usize) -> Result<()> {
    let bare = bare_image()?;
    let network = Network::isolate()?;
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    let nics = cable(&network, cluster.node(1)?)?;
    let bundle = cluster.bundle(1)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        theirs.push(boot("bare-debian", bare.clone(), None, &nics, "login:")?);
        ours.push(boot("trilith", artifact::image()?, Some(&bundle), &nics, "network converged")?);
    }
    table.add("power-on to converged, Trilith", &seconds(&ours), "");
    table.add("power-on to login, bare Debian", &seconds(&theirs), "");
    let ratio = median(ours) / median(theirs);
    table.add("  Trilith : bare Debian", &format!("{ratio:.2}"), "1.30");
    Ok(())
}

fn boot(
    name: &str,
    image: PathBuf,
    bundle: Option<&str>,
    nics: &[Nic],
    until: &str,
) -> Result<f64> {
    let bundle = bundle.map(String::from);
    let start = Instant::now();
    let (disks, nics) = (vec![Disk::of(image)], nics.to_vec());
    let machine = Machine::start(Spec { disks, bundle, nics, ..Spec::new(name) })?;
    machine.console().wait(until, BOOT)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Kernel, systemd and a login, made by the same mkosi from the same archive; made once and kept.
fn bare_image() -> Result<PathBuf> {
    let output = artifact::target().canonicalize()?.join("bench");
    let image = output.join("bare.raw");
    if !image.exists() {
        println!("building the bare Debian to compare with");
        fs::create_dir_all(&output)?;
        run(&mut mkosi(&output)?).context("cannot build the bare Debian")?;
    }
    Ok(image)
}

/// mkosi in the tools tree, with the package sources that `trilith build` left for it.
fn mkosi(output: &Path) -> Result<Command> {
    let top = artifact::repository().canonicalize()?;
    let mut command = Command::new("bwrap");
    command.arg("--bind").arg(artifact::tools()?).arg("/");
    command.args(["--dev-bind", "/dev", "/dev", "--proc", "/proc", "--ro-bind", "/sys", "/sys"]);
    command.args(["--perms", "1777", "--tmpfs", "/tmp", "--tmpfs", "/run"]);
    for host in ["/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"] {
        command.args(["--ro-bind-try", host, host]);
    }
    command.arg("--bind").args([&top, &top]).arg("--bind").args([output, output]);
    command.args(["--cap-add", "ALL", "--die-with-parent", "--", "mkosi", "--directory"]);
    command
        .arg(top.join("tests/bench/bare"))
        .arg("--sandbox-tree")
        .arg(top.join("target/build/sandbox"));
    command.arg("--workspace-dir").arg(output).arg("--output-directory").arg(output);
    command.args(["--force", "build"]);
    Ok(command)
}
