//! A program that runs beside a test, whose lines the test waits for.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::sh;

/// The longest that a program may take for anything on a busy machine, unless it waits for a virtual one.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A running program. It ends with this, by SIGKILL.
#[derive(Debug)]
pub struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    /// Starts it. What it says also goes to the test's own output.
    pub fn start(command: &mut Command) -> Result<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start a program")?;
        let (sender, lines) = channel();
        let out: Box<dyn Read + Send> = Box::new(child.stdout.take().context("no stdout")?);
        let err: Box<dyn Read + Send> = Box::new(child.stderr.take().context("no stderr")?);
        for stream in [out, err] {
            let sender = sender.clone();
            let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
            std::thread::spawn(move || {
                let heard = |line: &String| eprintln!("{line}");
                lines.by_ref().inspect(heard).try_for_each(|line| sender.send(line))
            });
        }
        Ok(Self { child, lines })
    }

    /// Waits for a line with this in it.
    pub fn until(&self, text: &str) -> Result<String> {
        self.until_within(text, PATIENCE)
    }

    /// The same with another patience between two lines.
    pub fn until_within(&self, text: &str, patience: Duration) -> Result<String> {
        loop {
            let line = self.lines.recv_timeout(patience);
            let line = line.with_context(|| format!("nobody said: {text}"))?;
            if line.contains(text) {
                return Ok(line);
            }
        }
    }

    /// Types a line.
    pub fn say(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.child.stdin.as_mut().context("no stdin")?, "{line}")?)
    }

    /// Whether it ends well. It must be about to.
    pub fn ended_well(mut self) -> Result<bool> {
        Ok(self.child.wait()?.success())
    }

    /// Asks it to end (SIGTERM), and tells whether it did so well.
    pub fn terminate(self) -> Result<bool> {
        sh(&format!("kill -TERM {}", self.child.id()))?;
        self.ended_well()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
