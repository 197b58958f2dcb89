//! How `trilithd` ends.

use std::process::ExitCode;

/// The exit codes of `trilithd`. Scripts rely on them: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done; for `plan` and `check`: and nothing is left to do.
    Ok = 0,
    /// It could not be done; standard error says why.
    Failed = 1,
    /// The command line is wrong. clap ends with the same number by itself.
    #[expect(dead_code, reason = "clap uses it; the list of codes is whole")]
    Usage = 2,
    /// There is no node bundle, or it has errors.
    BadBundle = 3,
    /// The node is not in its desired state: `plan` has steps, or `status --wait` ran out of time.
    NotConverged = 4,
    /// The bundle is good and this host lacks something that it asks for.
    DoesNotFit = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints an error with its causes, and gives the exit code of the outcome.
pub(crate) fn report(outcome: anyhow::Result<Exit>) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("trilithd: {error:#}");
            Exit::Failed.into()
        }
    }
}
