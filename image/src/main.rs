//! `trilith`, the operator's tool.

mod build; // from the sources to an image
mod cli; // the command tree: what can be asked for
mod cluster; // what is made from the cluster file
mod config; // judges and explains the cluster file
mod exec; // the one door to other programs
mod exit; // how a command ends
mod firmware; // every shipped module finds its firmware, or says why not
mod keys; // what releases are signed with
mod netboot; // servers start from the network
mod node; // looks at a node
mod rehearse; // an upgrade of the cluster in containers here
mod release; // from a build to what web servers serve
mod sbom; // package list and SPDX
mod upgrade; // brings the cluster to a release
mod usb; // a medium that nodes start from
mod vault; // files of secrets, opened and written

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    exit::report(cli::run(cli::Args::parse()))
}
