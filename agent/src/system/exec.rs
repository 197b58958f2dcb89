//! Programs: the only place that starts any. What a library or a socket can tell is asked there.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

#[cfg(test)]
mod tests;

/// How long a program may take; less than a call of an adapter may, so that it is the program that is blamed.
const LIMIT: Duration = Duration::from_secs(20);

/// How much of what a program writes is kept, from the end.
const TAIL: usize = 16 << 10;

/// What failed, and of which command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    #[error("cannot run {program}")]
    Start { program: String, source: io::Error },
    #[error("{program} says no ({status}){}", last(said))]
    Failed { program: String, status: ExitStatus, said: Vec<String> },
    #[error("{program} gave no answer within {} s{}", LIMIT.as_secs(), last(said))]
    Late { program: String, said: Vec<String> },
}

/// For people: the last few lines of what a program said.
fn last(said: &[String]) -> String {
    match &said[said.len().saturating_sub(5)..] {
        [] => String::new(),
        lines => format!(": {}", lines.join(" | ")),
    }
}

/// Runs a program to its end, without input, in a clean environment, and gives what it wrote to its output. It is
/// killed when it takes too long, or when this call is dropped.
pub(crate) async fn run<A: AsRef<OsStr>>(program: &str, args: &[A]) -> Result<String, ExecError> {
    answer(program, args, TAIL).await
}

/// The same with this text as input, which no other process can read, unlike arguments.
pub(crate) async fn tell<A: AsRef<OsStr>>(
    program: &str,
    args: &[A],
    input: &str,
) -> Result<String, ExecError> {
    let mut command = command(program);
    command.args(args).stdin(Stdio::piped());
    finish(program, command, input, TAIL).await
}

/// The same, and of what it wrote this many bytes, from the end.
pub(crate) async fn answer<A: AsRef<OsStr>>(
    program: &str,
    args: &[A],
    most: usize,
) -> Result<String, ExecError> {
    let mut command = command(program);
    command.args(args);
    finish(program, command, "", most).await
}

/// A program that is listened to as it talks, for as long as that may be.
pub(crate) struct Talking {
    output: BufReader<ChildStdout>,
    /// It is killed when this is dropped.
    child: Child,
}

/// Starts a program to listen to, without input, in a clean environment. Nobody hears its complaints.
pub(crate) fn listen<A: AsRef<OsStr>>(program: &str, args: &[A]) -> Result<Talking, ExecError> {
    let start = |source| ExecError::Start { program: program.into(), source };
    let mut command = command(program);
    let mut child = command.args(args).stderr(Stdio::null()).spawn().map_err(start)?;
    let output = child.stdout.take().ok_or_else(|| start(io::ErrorKind::BrokenPipe.into()))?;
    Ok(Talking { output: BufReader::new(output), child })
}

impl Talking {
    /// Its process, while it runs.
    #[cfg(test)]
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The next line; `None` at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        if let Ok(1..) = self.output.read_until(b'\n', &mut line).await {
            return Some(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
        }
        let _ = self.child.wait().await;
        None
    }
}

async fn finish(
    program: &str,
    mut command: Command,
    input: &str,
    most: usize,
) -> Result<String, ExecError> {
    let start = |source| ExecError::Start { program: program.into(), source };
    let mut child = command.spawn().map_err(start)?;
    let (given, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let talk = async {
        let listen = (tail(stdout, &mut out, most), tail(stderr, &mut err, TAIL));
        tokio::join!(give(given, input), listen.0, listen.1, child.wait()).3
    };
    let ended = timeout(LIMIT, talk).await;
    let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    let said = || lines(if err.trim().is_empty() { &out } else { &err });
    let Ok(status) = ended else {
        return Err(ExecError::Late { program: program.into(), said: said() });
    };
    let status = status.map_err(start)?;
    if status.success() {
        return Ok(out.into_owned());
    }
    Err(ExecError::Failed { program: program.into(), status, said: said() })
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Writes all of it, and ends there. A program that does not want to hear it says so by how it ends.
async fn give(stream: Option<impl AsyncWrite + Unpin>, text: &str) {
    if let Some(mut stream) = stream {
        let _ = stream.write_all(text.as_bytes()).await;
    }
}

/// Reads to the end and keeps the last part, so that a program that talks without end costs no memory.
async fn tail(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, most: usize) {
    let Some(mut stream) = stream else { return };
    let mut chunk = vec![0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..n]);
        kept.drain(..kept.len().saturating_sub(most));
    }
}

/// The lines that say something.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
