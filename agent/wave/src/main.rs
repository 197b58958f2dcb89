//! `trilith-wave`: this node's part of an upgrade of the whole cluster. It tells the others where this node stands, looks
//! where they stand, and does the one thing that [`trilith_core::wave::next`] says, over and over.
//!
//! It keeps nothing that a crash could lose: what was begun stands in ZooKeeper. What needs rights it leaves to others:
//! the updater writes slots and reboots, `trilith-evacuate` moves machines, the agent and its sockets tell of the node.

use std::path::Path;
use std::process::ExitCode;

use trilith_core::wave::settings::{SECRETS, SETTINGS, Settings};

mod ceph; // Ceph's monitors, by trilith-rados
mod commands; // what operators say, through the agent
mod host; // what this node finds on itself, and the updater's wish
mod http; // one question over a connection of its own
mod keeper; // what stands in ZooKeeper
mod log; // where log lines go
mod patroni; // the switchover
mod rounds; // look, decide, do, over and over

/// Without settings there is nothing to do (sysexits.h: a configuration error).
const NO_SETTINGS: u8 = 78;

fn main() -> ExitCode {
    log::start();
    let settings = match settings(&Path::new(SECRETS).join(SETTINGS)) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("{error}");
            return NO_SETTINGS.into();
        }
    };
    // More than one provider of cryptography is linked: it must be said which one counts. It fails if one is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(rounds::run(settings))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) | Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn settings(path: &Path) -> Result<Settings, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // Never the text: it has a password in it.
    serde_json::from_str(&text)
        .map_err(|error| format!("{}, line {}, cannot be read", path.display(), error.line()))
}
