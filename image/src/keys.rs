//! `trilith keys`: what releases are signed with.
//!
//! Two files, so that one of them can stay away from the machine that makes releases: `online.age` signs each release,
//! `offline.age` says who may. What is public lies beside them in clear.

mod enroll; // what firmware is given
mod init; // new ones
pub(crate) mod make; // keys and certificates
mod rotate; // replaces one
mod show; // what there is
pub(crate) mod store; // what the files hold
pub(crate) mod tuf; // the roots of the signed metadata

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::exit::Exit;
use crate::vault::{Unlock, Vault};
use store::{Offline, Online};

pub(crate) use enroll::Enrollment;

/// Make and keep the keys that releases are signed with.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Options),
    Rotate(rotate::Options),
    Show(show::Options),
    Enroll(enroll::Options),
}

/// Where the keys are.
#[derive(Debug, Args)]
pub(crate) struct Folders {
    /// The folder of the keys that sign releases, and of all that is public.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// The folder of the keys that say who may sign, such as a stick that is
    /// kept in a safe. Default: that of the others.
    #[arg(long, value_name = "DIR")]
    root_keys: Option<PathBuf>,
}

/// Carries out one command.
pub(crate) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Init(options) => init::run(options),
        Command::Rotate(options) => rotate::run(options),
        Command::Show(options) => show::run(options),
        Command::Enroll(options) => enroll::run(options),
    }
}

impl Folders {
    fn online(&self) -> PathBuf {
        online(&self.keys)
    }

    fn offline(&self) -> PathBuf {
        self.root_keys.as_ref().unwrap_or(&self.keys).join("offline.age")
    }

    /// The one file while the other is open.
    fn open_online(&self, unlock: &Unlock, other: &Vault) -> anyhow::Result<(Vault, Online)> {
        unlock.open_beside(&self.online(), other)
    }

    fn open_offline(&self, unlock: &Unlock) -> anyhow::Result<(Vault, Offline)> {
        unlock.open(&self.offline())
    }
}

/// The keys that sign releases, in their folder.
pub(crate) fn online(folder: &Path) -> PathBuf {
    folder.join("online.age")
}

/// Writes a file that anybody may read, whole or not at all: a new file beside it takes its place.
fn write_public(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    crate::release::files::write(path, content)
        .with_context(|| format!("cannot write {}", path.display()))
}
