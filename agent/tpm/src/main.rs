//! `trilith-tpm FOLDER`: runs before the agent on a machine that has a TPM and nobody's bundle. Leaves word in the folder
//! of the boot ([`trilith_core::boot::FOLDER`]) which TPM this is, and opens the bundles of the medium there that are
//! sealed to it. Its working folder is for files that the TPM alone can read, and for nobody else.

mod open; // a sealed bundle
mod tpm; // the TPM, by its tools

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use trilith_core::{boot, sealed};

use tpm::Tpm;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: trilith-tpm FOLDER, in a working folder of its own");
        return ExitCode::from(2);
    };
    match run(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The unit's standard error is the journal and the console.
            eprintln!("trilith-tpm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path) -> Result<()> {
    let tpm = Tpm::endorsed()?;
    let path = folder.join(sealed::ENDORSEMENT);
    std::fs::write(&path, tpm.key.as_str())
        .with_context(|| format!("cannot write {}", path.display()))?;
    open::all(&tpm, &folder.join(boot::MEDIUM))
}
