//! `trilith-update`: brings the release of the wish into the free slot, stages its system, and has it started if that is
//! wished for. Its unit starts it when there is a wish; it goes on waiting for the next one.

mod clock; // whether the time can be believed
mod fetch; // parts of a release, the cheapest way
mod firmware; // whether the firmware would start a system
mod look; // what there is
mod memory; // how far a fetch has come
mod metadata; // the signed metadata of a source
mod peers; // the other nodes of the cluster
mod run; // the loop
mod signature; // signatures of programs (Authenticode)
mod source; // where releases come from
mod tell; // what is said of it
mod tls; // https, without asking who answers
mod work; // the steps

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Bring the wished release into the free slot of this node.
#[derive(Debug, Parser)]
struct Options {
    /// The EFI system partition is mounted here. Default: it is mounted when
    /// it is needed.
    #[arg(long, value_name = "DIR")]
    esp: Option<PathBuf>,
    /// Take the clock for right, without asking chrony.
    #[arg(long)]
    trust_clock: bool,
}

fn main() -> ExitCode {
    match run::run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The unit's standard error is the journal.
            eprintln!("trilith-update: {error:#}");
            ExitCode::FAILURE
        }
    }
}
