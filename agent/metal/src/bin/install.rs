//! `trilith-install`: puts the node of the agent's wish onto its disk, from the medium that was booted. Its unit starts it
//! when there is a wish, and it ends with a reboot.

use std::process::ExitCode;

use trilith_metal::install;

fn main() -> ExitCode {
    match install::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The unit's standard error is the journal.
            eprintln!("trilith-install: {error:#}");
            ExitCode::FAILURE
        }
    }
}
