//! `trilith-boot-entries`: repairs the node's boot entries in the firmware, once in each boot.

use std::process::ExitCode;

use trilith_metal::boot_entries;

fn main() -> ExitCode {
    match boot_entries::keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The unit's standard error is the journal.
            eprintln!("trilith-boot-entries: {error:#}");
            ExitCode::FAILURE
        }
    }
}
