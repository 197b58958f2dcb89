//! `trilith-gate`: whether a boot on trial has brought back what the node was part of before.
//!
//! `remember` is called before a release is activated, and `run` in each boot of an installed node, by its unit. What is
//! proven and what is not, [`trilith_core::gate`] decides; here it is asked, told, and carried out.

mod agent; // what the agent and the kernel say
mod cli; // the commands
mod kept; // files that outlive the program
mod record; // what a release that has failed leaves behind
mod trial; // a boot on trial, from its first second to its end

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The unit's standard error is the journal.
            eprintln!("trilith-gate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
