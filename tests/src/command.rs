//! Programs of the host, and what to say when they fail.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Runs the program to its end and returns what it printed on stdout.
///
/// The error names the command line, the exit status and the last of what it said on stderr.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!("{}: {}: {}", line(command), output.status, said(&output))
}

/// Runs the program to its end, whatever its exit status.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("cannot start {}", line(command)))
}

/// `run` for a command without quoting in it: split at blanks.
pub fn sh(text: &str) -> Result<String> {
    let mut words = text.split_whitespace();
    let program = words.next().context("an empty command")?;
    run(Command::new(program).args(words))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn said(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    tail(if stderr.trim().is_empty() { &stdout } else { &stderr }, 20)
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_command_status_and_reason() {
        let error = sh("ls /no/such/place").unwrap_err().to_string();
        assert!(error.starts_with("ls /no/such/place: exit status: 2: "), "{error}");
        assert!(error.contains("No such file or directory"), "{error}");
    }

    #[test]
    fn tail_takes_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
        assert_eq!(tail("", 2), "");
    }
}
