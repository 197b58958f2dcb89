//! `trilith rehearse`: an upgrade of the operator's own cluster in containers on this machine. The work is done by the program
//! `trilith-rehearse`, for the lab belongs to the tests of this repository; here is judged what is asked for.

mod images; // the root file system of a release

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::build::top;
use crate::cluster::Cluster;
use crate::exec;
use crate::exit::{self, Exit};
use images::Image;

/// Rehearse an upgrade of the whole cluster in containers on this machine.
///
/// Every node of the cluster file starts here with the release FROM, with the
/// agents, ZooKeeper, Ceph and Patroni of that release, and a wave brings all
/// to the release TO while programs write to ZooKeeper, Postgres and an RBD
/// image. What cannot be had in a container is replaced, and told. A line for
/// each second shows who serves and what is written; the end shows what was
/// lost. Nothing outside of this machine is touched.
///
/// It needs root, the checkout with all of its programs built, memory for all
/// nodes, and minutes for each of them. The exit code is 0 only if the wave
/// came to its end, each node restarted once, no write and no quorum was lost,
/// and nothing had to wait for longer than 30 s to be written.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The cluster file. Its secrets are not read: the lab makes its own.
    file: PathBuf,
    /// The release that the nodes have: its version, or its image.
    #[arg(value_name = "FROM")]
    from: String,
    /// The release that they get: its version, or its image.
    #[arg(value_name = "TO")]
    to: String,
    /// Where versions are looked for: a folder of builds or of releases. May be
    /// repeated. Default: target/*image.
    #[arg(long, value_name = "DIR")]
    releases: Vec<PathBuf>,
    /// Write all that is seen into this file: a line of JSON for each change of
    /// the cluster file, event and second, and one for the end.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Give up when the wave takes longer. Default: 10, and 8 for each node.
    #[arg(long, value_name = "MINUTES")]
    limit: Option<u32>,
}

/// Who does it.
const PROGRAM: &str = "trilith-rehearse";

/// Carries out the command.
pub(crate) fn run(options: &Options) -> Result<Exit> {
    if let Err(exit) = Cluster::read(&options.file)? {
        return Ok(exit);
    }
    let folders = options.folders();
    let (from, to) = (Image::find(&options.from, &folders)?, Image::find(&options.to, &folders)?);
    if to.version <= from.version {
        return Ok(exit::usage(&format!(
            "{} is not newer than {}: a wave goes forward",
            to.version, from.version
        )));
    }
    let me = fs::metadata("/proc/self").context("cannot tell who this is")?;
    if me.uid() != 0 {
        bail!("only root makes containers, networks and loop devices: sudo");
    }
    let mut command = Command::new(beside(PROGRAM)?);
    command.arg(&options.file).arg("--from").arg(from.word()).arg("--to").arg(to.word());
    command.args(options.json.iter().flat_map(|file| [Path::new("--json"), file]));
    command.args(options.limit.map(|minutes| format!("--limit={minutes}")));
    Err(exec::become_program(&mut command))
}

impl Options {
    /// Where versions are looked for.
    fn folders(&self) -> Vec<PathBuf> {
        if !self.releases.is_empty() {
            return self.releases.clone();
        }
        // Images that are named by their paths need none.
        top().map(|top| images::builds(&top.join("target"))).unwrap_or_default()
    }
}

/// A program that lies where this one does.
fn beside(name: &str) -> Result<PathBuf> {
    let me = env::current_exe().context("cannot tell where this program lies")?;
    let path = me.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    let release = me.parent().is_some_and(|folder| folder.ends_with("release"));
    let release = if release { " --release" } else { "" };
    bail!(
        "no {}: in the checkout, `cargo build --workspace --bins --locked{release}` makes it",
        path.display()
    )
}
