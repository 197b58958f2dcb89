//! `trilith release`: from what `trilith build` made to a folder that any web server can serve.
//!
//! ```text
//! metadata/  N.root.json N.targets.json N.snapshot.json timestamp.json    signed (TUF), timestamp.json the last of all
//! targets/   SHA256.NAME                                                  what they name
//! ```
//!
//! Nothing leads to a file before it is whole and on the disk, so that a release that was cut off in the middle is none.

mod chunks; // chunks that other releases have as well
mod delta; // what differs from an older release
pub(crate) mod files; // writes files, whole or not at all
mod repository; // the signed metadata
mod sign; // signatures for firmware
mod source; // what was built
mod store; // files become targets
mod work; // the steps

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use trilith_core::version::Version;

use crate::exit::Exit;
use crate::keys::store::Online;
use crate::keys::{self, Enrollment, tuf};
use crate::vault::Unlock;
use repository::{Lifetimes, Repository};

pub(crate) use sign::Bench;

/// Make a build a release, in a folder that any web server can serve.
///
/// UKI and boot loader are signed for Secure Boot. Root, hash tree and UKI are
/// there whole, and as what differs from the last releases in the folder; the
/// root also in chunks. Run it again after an interruption: a release that is
/// not whole is never seen.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    refresh: Option<Command>,
    /// What `trilith build` left.
    #[arg(value_name = "BUILD", default_value = "target/image")]
    build: PathBuf,
    /// The folder of the releases.
    #[arg(long, value_name = "DIR", required = true)]
    into: Option<PathBuf>,
    /// From how many of the last releases there are differences.
    #[arg(long, value_name = "N", default_value_t = 3)]
    previous: usize,
    /// The oldest version that may be upgraded to this one. Default: any.
    #[arg(long, value_name = "VERSION", default_value = "0")]
    min_from: Version,
    /// How hard zstd works, 1 to 22.
    #[arg(long, value_name = "LEVEL", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
    /// What `trilith keys enroll` wrote: firmware in setup mode gets it from
    /// media of this release. Default: enroll/ in the folder of the keys, if
    /// it is there.
    #[arg(long, value_name = "DIR")]
    enroll: Option<PathBuf>,
    /// The tools tree with sbsign and mtools; `/` is this machine's own.
    /// Default: target/tools of the repository.
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign the metadata anew, before it expires or after a key was replaced.
    Refresh {
        /// The folder of the releases.
        folder: PathBuf,
        #[command(flatten)]
        signing: Signing,
    },
}

/// With what, and for how long.
#[derive(Debug, Args)]
struct Signing {
    /// The folder of the keys, as `trilith keys init` made it. Those that are
    /// offline are not needed.
    #[arg(long, value_name = "DIR", required = true)]
    keys: Option<PathBuf>,
    #[command(flatten)]
    unlock: Unlock,
    #[command(flatten)]
    lifetimes: Lifetimes,
}

impl Options {
    /// What media of the release give to firmware, if anything.
    fn enrollment(&self, online: &Online) -> Result<Option<Enrollment>> {
        let keys = self.signing.keys.as_deref().context("no --keys")?;
        let usual = Enrollment::folder(keys);
        let folder = self.enroll.as_deref().or_else(|| usual.exists().then_some(&*usual));
        folder.map(|folder| Enrollment::read(folder, online)).transpose()
    }
}

/// Carries out the command.
pub(crate) fn run(options: &Options) -> Result<Exit> {
    if let Some(Command::Refresh { folder, signing }) = &options.refresh {
        return refresh(folder.clone(), signing);
    }
    let into = options.into.clone().context("no --into")?;
    let signing = &options.signing;
    let (mut repository, online) = open(into, signing)?;
    work::release(options, &mut repository, (&online, &signing.lifetimes))?;
    eprintln!("{}", repository.until());
    Ok(Exit::Ok)
}

fn refresh(folder: PathBuf, signing: &Signing) -> Result<Exit> {
    let (mut repository, online) = open(folder, signing)?;
    block_on(repository.refresh(&online, &signing.lifetimes))?;
    eprintln!("{}", repository.until());
    Ok(Exit::Ok)
}

fn open(folder: PathBuf, signing: &Signing) -> Result<(Repository, Online)> {
    let keys = signing.keys.as_ref().context("no --keys")?;
    let roots = tuf::Roots::read(keys)?;
    let (_, online): (_, Online) = signing.unlock.open(&keys::online(keys))?;
    Ok((Repository::open(folder, roots)?, online))
}

/// Runs what tough and bitar do to its end: they know no other way.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}
