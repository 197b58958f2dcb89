//! Prints the figures that Trilith is measured by, in one run on one machine; where two things are compared, as
//! a ratio. `ci/bench` runs it.

#![expect(clippy::print_stdout, reason = "figures are this program's output")]

use std::process::ExitCode;
use std::thread;

use anyhow::{Result, anyhow};
use clap::Parser;

mod boot; // power-on to converged, against a bare Debian
mod build; // cold build, rebuild, sizes
mod check; // how long the cluster file of a thousand nodes takes
mod idle; // what an agent costs that has nothing to do
mod install; // stick in to installed and converged, against the disk's speed and a plain boot
mod netboot; // from the network to converged, against a disk
mod networkd; // the same network as systemd-networkd's files
mod node; // configuration to converged, in a running node
mod quorums; // power-on to all quorums, and what the agents cost then
mod services; // a killed service noticed, and running again
mod table; // how figures are printed
mod thousand; // an agent in a cluster of a thousand nodes
mod upgrade; // bytes, seconds, memory and absence of an upgrade
mod wave; // quorums lost in a wave over a cluster, and the pauses that writers saw

use table::Table;

/// Prints Trilith's figures. Needs root, and programs and image built.
#[derive(Debug, Parser)]
struct Options {
    /// Only these groups of figures, all if none is named.
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// How often each thing that is compared is measured; the median is printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Figures that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// Convergence against systemd-networkd.
    Node,
    /// Power-on to converged against a bare Debian's power-on to login.
    Boot,
    /// A node installed from a stick: seconds and bytes.
    Install,
    /// Power-on to converged from the network, against a disk; the memory of a node without one.
    Netboot,
    /// Cold build, rebuild after a change of the agent.
    Build,
    /// `trilith config check` of a thousand nodes.
    Check,
    /// Power-on to all quorums, from empty disks and with data; what the agents of a formed cluster cost.
    Quorums,
    /// The agents of a cluster of a thousand nodes.
    Thousand,
    /// Killed services noticed and running again, in a cluster in containers.
    Services,
    /// A node from one release to the next.
    Upgrade,
    /// A cluster in containers from one release to the next, while it is written to.
    Wave,
    /// Sizes of what a build leaves.
    Sizes,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let wanted = |group| options.groups.is_empty() || options.groups.contains(&group);
    let mut table = Table::new();
    if wanted(Group::Sizes) {
        build::sizes(&mut table)?;
    }
    if wanted(Group::Check) {
        check::thousand_nodes(&mut table, options.rounds)?;
    }
    if wanted(Group::Node) {
        apart(|| node::figures(&mut table, options.rounds))?;
    }
    if wanted(Group::Services) {
        services::figures(&mut table, options.rounds)?;
    }
    if wanted(Group::Boot) {
        apart(|| boot::figures(&mut table, options.rounds))?;
    }
    if wanted(Group::Install) {
        apart(|| install::figures(&mut table, options.rounds))?;
    }
    if wanted(Group::Upgrade) {
        apart(|| upgrade::figures(&mut table, options.rounds))?;
    }
    if wanted(Group::Wave) {
        wave::figures(&mut table)?;
    }
    if wanted(Group::Netboot) {
        netboot::figures(&mut table, options.rounds)?;
    }
    if wanted(Group::Quorums) {
        quorums::figures(&mut table, options.rounds)?;
    }
    if wanted(Group::Thousand) {
        thousand::figures(&mut table)?;
    }
    if wanted(Group::Build) {
        build::times(&mut table)?;
    }
    table.finish();
    Ok(())
}

/// Measures in a thread of its own, which may move into another network without taking the next group along.
fn apart<T: Send>(group: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let outcome = thread::scope(|scope| scope.spawn(group).join());
    outcome.map_err(|_| anyhow!("a group of figures panicked"))?
}
