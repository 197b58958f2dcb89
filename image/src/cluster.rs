//! `trilith cluster`: what is made from the cluster file.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use trilith_core::bundle::{Bundle, BundleError};
use trilith_core::names::NodeId;

use crate::config;
use crate::exit::{self, Exit};

/// Make what belongs to a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the bundle of one node: the cluster file and the node's ID.
    Bundle {
        /// The cluster file; `-` is standard input.
        file: PathBuf,
        /// The node's ID.
        #[arg(long, value_name = "ID", value_parser = config::node_id)]
        node: NodeId,
        /// Where to write it, readable by its owner alone. Default: standard output.
        #[arg(long, value_name = "PATH")]
        output: Option<PathBuf>,
    },
}

/// Carries out one command.
pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    let Command::Bundle { file, node, output } = command;
    let cluster = config::read(&file)?;
    let bundle = match Bundle::write(node, &cluster) {
        Ok(bundle) => bundle,
        Err(BundleError::BadConfig(problems)) => {
            config::complain(&file, &cluster, &problems)?;
            return Ok(Exit::BadConfig);
        }
        Err(BundleError::NoSuchNode(node)) => {
            return Ok(exit::usage(&format!("{} has no node {node}", file.display())));
        }
        Err(error) => return Err(error).context("cannot make the bundle"),
    };
    match output {
        None => config::print(&bundle)?,
        Some(path) => write_private(&path, &bundle)
            .with_context(|| format!("cannot write {}", path.display()))?,
    }
    Ok(Exit::Ok)
}

/// Writes a file that only its owner reads, whole or not at all: a new file beside it takes its place.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}
