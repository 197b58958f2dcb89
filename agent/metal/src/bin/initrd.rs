//! `trilith-initrd STAGE`: the steps of the initrd that decide something. Its units call it, one stage each.

use std::process::ExitCode;

use anyhow::bail;
use trilith_metal::{root, var};

fn main() -> ExitCode {
    let stage = std::env::args().nth(1).unwrap_or_default();
    let done = match stage.as_str() {
        "root" => root::run(),
        "var" => var::run(),
        _ => (|| bail!("usage: trilith-initrd root|var"))(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The unit's standard error is the journal and the console.
            eprintln!("trilith-initrd {stage}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
