//! The one door to other programs.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a program to its end; its output goes where ours goes.
///
/// # Errors
/// It cannot be started, or ends with anything but success.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    let status = command.args(arguments).stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("{program} {}: {status}", arguments.join(" "));
    }
    Ok(())
}
