//! What this node finds on itself, and what it wishes of its updater and of the program that moves machines.

use std::io;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde::Deserialize;
use tokio::net::UnixStream;
use trilith_core::boot::RootHash;
use trilith_core::evacuate::{self, Move, WISH as MOVES};
use trilith_core::gate::{FailedList, Said};
use trilith_core::status::NodeStatus;
use trilith_core::update::{STATE, Wish};
use trilith_core::version::Version;
use trilith_core::wave::local::Local;
use trilith_core::wave::settings::Fetch;
use trilith_core::wave::word::Failed;

use crate::http::{self, HttpError};

/// The agent's socket.
const AGENT: &str = "/run/trilith/agent.sock";
/// The updater's wish.
const WISH: &str = "/run/trilith/update/wish.yaml";
/// What the gate says of this boot.
const GATE: &str = "/run/trilith-gate/state.yaml";
/// Which releases have failed here.
const FAILED: &str = "/var/lib/trilith-gate/failed.yaml";
/// There in a boot that the boot loader counted (Boot Loader Interface).
const COUNTED: &str =
    "/sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// The kernel's ID of this boot.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// How long the agent may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// What failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("the agent on {AGENT}: {0}")]
    Agent(#[from] HttpError),
    #[error("the agent's answer is no status: {0}")]
    Status(#[from] serde_json::Error),
    #[error("cannot read {path}")]
    Read { path: &'static str, source: io::Error },
    #[error("{path} is not understood: {source}")]
    Parse { path: &'static str, source: serde_yaml::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: &'static str, source: io::Error },
    #[error("cannot remove {path}: {source}")]
    Remove { path: &'static str, source: io::Error },
    #[error("the wish cannot be written: {0}")]
    Yaml(#[from] serde_yaml::Error),
    #[error("the cluster file has no `update`: nobody knows where releases are")]
    NoSource,
}

/// Looks at everything. `trouble`: what went wrong in the last round.
pub(crate) async fn look(trouble: Option<String>) -> Result<Local, HostError> {
    let boot = read(BOOT)?.unwrap_or_default().trim().to_owned();
    let command_line = read("/proc/cmdline")?.unwrap_or_default();
    let failed: FailedList = parse(FAILED)?.unwrap_or_default();
    let failed =
        failed.all().iter().map(|it| Failed { version: it.version.clone(), why: it.why.clone() });
    Ok(Local {
        status: status().await?,
        boot,
        root_hash: RootHash::of_command_line(&command_line),
        counted: Path::new(COUNTED).exists(),
        stand: parse::<Said>(GATE)?.map(|said| said.stand),
        // Before what the updater says of it.
        told: parse(WISH)?,
        updater: parse(STATE)?,
        mover: parse(evacuate::STATE)?,
        failed: failed.collect(),
        trouble,
    })
}

/// Asks the agent.
async fn status() -> Result<NodeStatus, HostError> {
    let stream = UnixStream::connect(AGENT).await.map_err(HttpError::Connect)?;
    let request = Request::get("/status").header("host", "trilith");
    let request = request.body(Body::empty()).unwrap_or_default();
    let text = http::ask(stream, request, LIMIT).await?;
    Ok(serde_json::from_str(&text)?)
}

/// Puts the updater's wish, if it is another one than before.
pub(crate) fn wish(
    fetch: Option<&Fetch>,
    (wave, version, again): (Option<u64>, &Version, bool),
    activate: bool,
) -> Result<(), HostError> {
    let Fetch { source, trust, trial } = fetch.ok_or(HostError::NoSource)?.clone();
    let version = version.clone();
    let wish = Wish { version, source, trust, activate, again, back: false, trial, wave };
    put(&wish)
}

/// Takes back that the release be activated, if that is wished for: what was refused is not to be done later.
pub(crate) fn calm() -> Result<(), HostError> {
    match parse::<Wish>(WISH)? {
        Some(wish) if wish.activate => put(&Wish { activate: false, ..wish }),
        _ => Ok(()),
    }
}

/// Takes the updater's wish back. Unlike another wish, that there is none shows in what the updater says: then it has left
/// off, and begins nothing.
pub(crate) fn withdraw() -> Result<(), HostError> {
    remove(WISH)
}

/// Has machines moved away, as long as this is not taken back.
pub(crate) fn evacuate(wave: Option<u64>, moves: Vec<Move>) -> Result<(), HostError> {
    let Some(wave) = wave else { return Ok(()) };
    write(MOVES, &serde_yaml::to_string(&evacuate::Wish { wave, moves })?)
}

/// Has machines stay where they are. One that is on its way arrives.
pub(crate) fn stay() -> Result<(), HostError> {
    remove(MOVES)
}

fn remove(path: &'static str) -> Result<(), HostError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(HostError::Remove { path, source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn put(wish: &Wish) -> Result<(), HostError> {
    write(WISH, &serde_yaml::to_string(wish)?)
}

/// Puts a text in a file, if it is another one than before.
fn write(path: &'static str, text: &str) -> Result<(), HostError> {
    if std::fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    let beside = format!("{path}.new");
    let put = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    put.map_err(|source| HostError::Write { path, source })
}

/// A file's text; `None`: there is none.
fn read(path: &'static str) -> Result<Option<String>, HostError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HostError::Read { path, source }),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(path: &'static str) -> Result<Option<T>, HostError> {
    let Some(text) = read(path)? else { return Ok(None) };
    serde_yaml::from_str(&text).map(Some).map_err(|source| HostError::Parse { path, source })
}
