//! Boots one node of a cluster file in QEMU and keeps it running until SIGINT or SIGTERM. `ci/demo` calls it.

#![expect(clippy::print_stdout, reason = "its output is for people")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, bail};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::console::Console;
use trilith_tests::network::Network;
use trilith_tests::node::Node;

/// Boot one node of a cluster file in QEMU, show its status and the way in, and keep it running.
#[derive(Debug, Parser)]
struct Arguments {
    /// The cluster file.
    cluster: PathBuf,
    /// Which of its nodes.
    #[arg(long, default_value_t = 1)]
    node: u16,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Blocked before any thread starts, so that all of them leave these signals to the one that waits for them.
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGINT);
    ends.add(Signal::SIGTERM);
    ends.thread_block()?;

    let network = Network::isolate()?;
    let cluster = Cluster::sample(&arguments.cluster)?;
    let mut node = Node::boot(&network, &cluster, arguments.node)?;
    let asked = end_on(ends, node.machine().pid())?;
    let outcome = present(&mut node);
    if asked.load(Ordering::Relaxed) {
        println!("demo: the node is off");
        return Ok(());
    }
    outcome
}

/// Shows the node's boot, its status and the way in; returns when the machine has ended.
fn present(node: &mut Node<'_>) -> Result<()> {
    let booted = Arc::new(AtomicBool::new(false));
    show(node.console().clone(), Arc::clone(&booted));
    node.wait_booted()?;
    booted.store(true, Ordering::Relaxed);

    println!("{}", node.ssh("trilithd status")?);
    node.ping_all()?;
    println!("its core addresses answer to packets of full size");
    let way_in = way_in(node)?;
    println!(
        "demo: ready. A shell on the node: {}; Ctrl-C or `ci/demo stop` ends it",
        way_in.display()
    );
    node.console().wait_end();
    bail!("the machine has ended by itself")
}

/// Switches the machine off at the first of these signals, also while it boots: every wait ends with it.
fn end_on(signals: SigSet, machine: u32) -> Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&asked);
    let machine = Pid::from_raw(machine.try_into()?);
    thread::spawn(move || {
        if signals.wait().is_ok() {
            told.store(true, Ordering::Relaxed);
            // Not yet waited for, so the process ID is still the machine's.
            let _gone = kill(machine, Signal::SIGKILL);
        }
    });
    Ok(asked)
}

/// Shows what the console says until the node has booted.
fn show(console: Console, booted: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut mark = 0;
        while let Some(news) = console.news(mark) {
            if booted.load(Ordering::Relaxed) {
                return;
            }
            mark += news.len();
            print!("{news}");
        }
    });
}

/// A script that runs `ssh` in the node's network.
fn way_in(node: &mut Node<'_>) -> Result<PathBuf> {
    let ssh = node.ssh_command()?;
    let words: Vec<_> =
        ssh.get_args().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let script = format!(
        "#!/bin/sh\nexec nsenter --target {} --net {} \"$@\"\n",
        node.machine().pid(),
        words.join(" ")
    );
    let path = artifact::machines()?.join("demo-ssh");
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
