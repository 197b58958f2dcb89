//! Whether the firmware would start a system: what its variables say, and what is signed in the system's file.

use std::path::Path;

use anyhow::{Context as _, Result};
use trilith_core::efi::GLOBAL;
use trilith_core::efi::signatures::{Database, VENDOR};
use trilith_metal::efi::Variables;

use crate::signature;

/// Checks a system against the firmware's own lists, if Secure Boot is on.
///
/// # Errors
/// The firmware would not start it, and why.
pub(crate) fn check(variables: &Variables, system: &Path) -> Result<()> {
    let on = variables.read("SecureBoot", GLOBAL)?.is_some_and(|value| value == [1]);
    if !on {
        return Ok(());
    }
    let database = |name: &str| -> Result<Database> {
        let value = variables.read(name, VENDOR)?.unwrap_or_default();
        Database::read(&value).with_context(|| format!("cannot read the firmware's {name}"))
    };
    signature::check(system, &database("db")?, &database("dbx")?)
        .context("Secure Boot is on, and the firmware would not start the release's system")
}
