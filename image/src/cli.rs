//! The command tree, on one page.

use clap::{Parser, Subcommand};

use crate::exit::Exit;
use crate::{build, cluster, config, keys, netboot, node, rehearse, release, upgrade, usb};

/// Builds, checks and rolls out Trilith clusters.
#[derive(Debug, Parser)]
#[command(name = "trilith", version, about, arg_required_else_help = true, max_term_width = 80)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::Options),
    #[command(subcommand)]
    Config(config::Command),
    #[command(subcommand)]
    Cluster(cluster::Command),
    #[command(subcommand)]
    Keys(keys::Command),
    Node(node::Options),
    Netboot(netboot::Options),
    Rehearse(rehearse::Options),
    Release(release::Options),
    Upgrade(upgrade::Options),
    Usb(usb::Options),
}

/// Carries out one command.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.command {
        Command::Build(options) => build::run(options),
        Command::Config(command) => config::run(command),
        Command::Cluster(command) => cluster::run(command),
        Command::Keys(command) => keys::run(&command),
        Command::Node(options) => node::run(&options),
        Command::Netboot(options) => netboot::run(&options),
        Command::Rehearse(options) => rehearse::run(&options),
        Command::Release(options) => release::run(&options),
        Command::Upgrade(options) => upgrade::run(&options),
        Command::Usb(options) => usb::run(&options),
    }
}
