//! How a command ends: one exit code per kind of outcome, and errors printed once, here.

use std::process::ExitCode;

/// The exit codes of `trilith`. Scripts rely on them: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// It could not be done; standard error says why.
    Failed = 1,
    /// The command line is wrong. clap ends with the same number by itself.
    Usage = 2,
    /// The cluster file has errors.
    BadConfig = 3,
    /// The image was built, and a file of it is larger than its budget.
    OverBudget = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Says what is wrong with the command line where clap cannot know it.
pub(crate) fn usage(reason: &str) -> Exit {
    eprintln!("trilith: {reason}");
    Exit::Usage
}

/// Prints an error with its causes, and gives the exit code of the outcome.
pub(crate) fn report(outcome: anyhow::Result<Exit>) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("trilith: {error:#}");
            Exit::Failed.into()
        }
    }
}
