//! The node agent `trilithd`.

use std::process::ExitCode;

use clap::Parser as _;

mod api; // the status over a unix socket, and the client for it
mod bundle; // from the node bundle to what each subject should be
mod cli; // the commands
mod daemon; // what runs, and how it hangs together
mod diagnosis; // what a person asks the node for
mod exit; // how it ends
mod peers; // what the agents tell each other
mod reconcile; // the one loop for every subject
mod report; // status for people and machines
mod share; // releases from node to node
mod system; // the adapters: the only code that touches the host
mod upgrade; // operators' word for the wave
mod wake; // what wakes whoever waits

fn main() -> ExitCode {
    exit::report(cli::run(cli::Cli::parse()))
}
