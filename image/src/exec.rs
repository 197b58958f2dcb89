//! The one door to other programs: they run from here, write to a log, and their errors carry its end.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Error, Result, bail};

/// How many lines of a failed program's output the error repeats.
const TAIL: usize = 25;

/// Runs a program to its end. All output goes to `log`; lines that begin with one of `shown` also
/// appear on standard error, so that a person sees what takes so long.
///
/// # Errors
/// It cannot be started, or ends with anything but success: with the command and the end of the log.
pub(crate) fn run(command: &mut Command, log: &Path, shown: &[&str]) -> Result<()> {
    let name = line(command);
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    writeln!(file, "+ {name}")?;
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    // The command holds our ends of the pipe: without them the reader sees the end of the output.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let copied = copy(BufReader::new(reader), &mut file, shown);
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    let tail = copied.with_context(|| format!("cannot follow the output of {name}"))?;
    check(status, &name, &tail).with_context(|| format!("the whole output is in {}", log.display()))
}

/// Runs a program to its end and gives its standard output.
///
/// # Errors
/// It cannot be started, ends with anything but success, or writes what is not UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = line(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {name}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let skip = errors.lines().count().saturating_sub(TAIL);
    check(output.status, &name, &errors.lines().skip(skip).collect::<Vec<_>>().join("\n"))?;
    String::from_utf8(output.stdout).with_context(|| format!("{name} wrote what is not text"))
}

/// Becomes another program, which has this one's terminal and says how the command ends. What is given is why it could not.
pub(crate) fn become_program(command: &mut Command) -> Error {
    let name = line(command);
    Error::new(command.exec()).context(format!("cannot start {name}"))
}

fn check(status: ExitStatus, name: &str, tail: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("{name}: {status}\n{tail}")
}

/// Copies line by line into the log and gives the last lines.
fn copy(mut from: impl BufRead, log: &mut impl Write, shown: &[&str]) -> io::Result<String> {
    let mut tail = std::collections::VecDeque::with_capacity(TAIL);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        log.write_all(&line)?;
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if shown.iter().any(|start| text.trim_start().starts_with(start)) {
            eprintln!("         {}", shorten(text.trim_start()));
        }
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(text);
        line.clear();
    }
    Ok(Vec::from(tail).join("\n"))
}

/// Cuts what a terminal would wrap: mkosi and apt repeat long paths.
fn shorten(text: &str) -> String {
    const WIDTH: usize = 100;
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The command as a person would type it, without what only says where it runs.
fn line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    // A command in the tools tree: what stands after bwrap's `--` is what matters.
    let inner = words.iter().position(|word| *word == "--").map_or(0, |at| at + 1);
    words[inner..].iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_command_and_the_end_of_its_output() {
        let log = std::env::temp_dir().join(format!("trilith-exec-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let error = format!("{:#}", run(&mut command, &log, &[]).unwrap_err());
        let kept = fs::read_to_string(&log).unwrap();
        fs::remove_file(&log).unwrap();
        assert!(error.contains("exit status: 3\nout\nerr"), "{error}");
        assert!(error.contains("sh -c"), "{error}");
        assert!(kept.ends_with("out\nerr\n"), "{kept}");
    }

    #[test]
    fn output_is_standard_output_alone() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2"]);
        assert_eq!(output(&mut command).unwrap(), "out\n");
    }

    #[test]
    fn long_lines_are_cut_at_characters() {
        assert_eq!(shorten(&"ä".repeat(101)), format!("{}…", "ä".repeat(100)));
        assert_eq!(shorten("short"), "short");
    }
}
