//! One change of units or files.

use std::collections::BTreeMap;
use std::fmt;

use super::desired::{File, Folder, OnChange};
use super::limits::Limits;
use super::names::UnitName;

/// What a unit must do because of a changed file, by unit. It is written to the host before the file, so that a crash
/// in between costs a needless restart and never leaves a service with an old configuration.
pub type Marks = BTreeMap<UnitName, OnChange>;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Stop a unit that the agent owns and the node no longer needs.
    Stop(UnitName),
    /// Make a folder for secrets, or give it its owner and mode back.
    Folder {
        /// The absolute path.
        path: String,
        /// How it is to be.
        folder: Folder,
    },
    /// Remove a file that the agent owns and nothing reads any more.
    Remove {
        /// The absolute path.
        path: String,
        /// The units that have read it.
        marks: Marks,
    },
    /// Write a whole file, atomically, once its checker has accepted it.
    Write {
        /// The absolute path.
        path: String,
        /// What is to be in it.
        file: File,
        /// The units that have read the old one.
        marks: Marks,
    },
    /// Set resource controls until the next boot.
    Limit {
        /// The unit.
        unit: UnitName,
        /// Those that are to be set.
        limits: Limits,
    },
    /// Start a unit.
    Start(UnitName),
    /// Let a running unit read its files again, then remove its mark.
    Reload(UnitName),
    /// Restart a unit that reads its files only when it starts, and remove its mark.
    Restart(UnitName),
    /// Remove the mark of a unit that does not run and will read its files when it does.
    Unmark(UnitName),
    /// Let systemd forget how often it has restarted a unit.
    Forgive(UnitName),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(unit) => write!(f, "stop {unit}"),
            Self::Folder { path, folder } => {
                write!(f, "make folder {path} (mode {:04o}, {})", folder.mode, folder.owner)
            }
            Self::Remove { path, marks } => {
                write!(f, "remove {path}")?;
                for_marks(f, marks)
            }
            Self::Write { path, file, marks } => {
                let File { content, mode, owner, checker } = file;
                write!(f, "write {path} ({} bytes, mode {mode:04o}, {owner}", content.len())?;
                if let Some(checker) = checker {
                    write!(f, ", checked by {checker}")?;
                }
                f.write_str(")")?;
                for_marks(f, marks)
            }
            Self::Limit { unit, limits } => write!(f, "limit {unit}: {limits}"),
            Self::Start(unit) => write!(f, "start {unit}"),
            Self::Reload(unit) => write!(f, "reload {unit}"),
            Self::Restart(unit) => write!(f, "restart {unit}"),
            Self::Unmark(unit) => write!(f, "remove the mark of {unit}"),
            Self::Forgive(unit) => write!(f, "forgive {unit} its restarts"),
        }
    }
}

fn for_marks(f: &mut fmt::Formatter<'_>, marks: &Marks) -> fmt::Result {
    for (unit, change) in marks {
        write!(f, ", {change} {unit} then")?;
    }
    Ok(())
}
