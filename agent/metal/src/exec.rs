//! The one door to other programs.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a program to its end and gives what it printed; what it complains of goes where ours goes.
///
/// # Errors
/// It cannot be started, or ends with anything but success.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    let command = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

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
