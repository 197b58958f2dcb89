//! An upgrade of an operator's own cluster, in containers on this host. `trilith rehearse` calls it, and says what is wrong
//! with the command line.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use trilith_tests::lab::Release;
use trilith_tests::rehearsal::{Order, rehearse};

/// An upgrade of a cluster in containers on this host.
#[derive(Debug, Parser)]
#[command(name = "trilith-rehearse", max_term_width = 80)]
struct Cli {
    /// The cluster file.
    file: PathBuf,
    /// The release that the nodes have, and its root.
    #[arg(long, value_name = "VERSION=ROOT", value_parser = release)]
    from: Release,
    /// The release that they get, and its root.
    #[arg(long, value_name = "VERSION=ROOT", value_parser = release)]
    to: Release,
    /// A file for all that is seen.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How long the wave may take.
    #[arg(long, value_name = "MINUTES")]
    limit: Option<u64>,
}

fn release(text: &str) -> Result<Release, String> {
    let (version, root) = text.split_once('=').ok_or("write VERSION=ROOT")?;
    Ok(Release { version: version.parse().map_err(|error| format!("{error}"))?, root: root.into() })
}

fn main() -> ExitCode {
    let Cli { file, from, to, json, limit } = Cli::parse();
    let order = Order { file, from, to, json, limit: limit.map(Duration::from_mins) };
    match rehearse(&order, &mut stdout()) {
        Ok(summary) if summary.troubles().is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("trilith rehearse: {error:#}");
            ExitCode::FAILURE
        }
    }
}
