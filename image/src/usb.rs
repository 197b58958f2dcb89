//! `trilith usb`: a release and the bundles of nodes, on something that a server starts from.

mod iso; // the first sectors of a disc
mod medium; // what it is made of
mod seal; // for one TPM alone
mod target; // what it is written to

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use trilith_core::config::{Config, Match};
use trilith_core::names::NodeId;
use trilith_core::sealed;

use crate::cluster::{self, Access};
use crate::config;
use crate::exit::{self, Exit};
use medium::Medium;
use target::Target;

/// Write a medium that nodes start from: a release and their bundles.
///
/// The same bytes serve as a USB stick, as a virtual CD of a management
/// controller and as the disk of a virtual machine (UEFI). A node finds its own
/// bundle by `nodes[].match`. Started from a medium, a node with a `system_disk`
/// installs itself there, and one without keeps everything in memory, but for
/// its /var if it has a `var_disk`.
///
/// Bundles hold secrets, and whoever holds the medium can read them, but for
/// those of nodes whose `match` names their TPM's endorsement key: these are
/// sealed to that TPM.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The cluster file.
    file: PathBuf,
    /// Where to write it: a file, or a whole disk such as /dev/sdb.
    #[arg(long, value_name = "FILE|DEVICE")]
    output: PathBuf,
    /// Only the bundles of these nodes. Default: of all.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', value_parser = config::node_id)]
    nodes: Vec<NodeId>,
    /// The release: a disk image of `trilith build`. Default: the newest in
    /// target/image.
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    /// Destroy what is on the disk with this serial number, without asking.
    #[arg(long, value_name = "SERIAL")]
    yes_wipe: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// Carries out the command.
pub(crate) fn run(options: &Options) -> Result<Exit> {
    let cluster = match cluster::Cluster::read(&options.file)? {
        Ok(cluster) => cluster,
        Err(exit) => return Ok(exit),
    };
    let nodes = match choose(&options.file, cluster.config(), &options.nodes) {
        Ok(nodes) => nodes,
        Err(reason) => return Ok(exit::usage(&reason)),
    };
    let image = options.image.clone().map_or_else(newest_image, Ok)?;
    let bundles = match cluster.bundles(&nodes, &options.access)? {
        Ok(bundles) => bundles,
        Err(exit) => return Ok(exit),
    };
    let bundles = Bundles::new(cluster.config(), bundles)?;
    let medium = Medium::new(&image, &bundles.files)?;
    let Some(target) = Target::open(&options.output, options.yes_wipe.as_deref(), medium.size())?
    else {
        return Ok(Exit::Failed);
    };
    target.write(&medium)?;
    let names = nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    eprintln!("trilith: {} starts the nodes {names}", options.output.display());
    if bundles.readable.is_empty() {
        eprintln!(
            "trilith: their secrets are sealed: each bundle is for the TPM of its node alone"
        );
    } else {
        eprintln!(
            "trilith: the secrets of {} are on it, readable by whoever holds it: keep it, or destroy it",
            bundles.readable.join(", ")
        );
    }
    Ok(Exit::Ok)
}

/// Bundles as they lie on a medium.
#[derive(Default)]
struct Bundles {
    /// Name and text.
    files: Vec<(String, String)>,
    /// The names of the nodes whose secrets whoever holds the medium can read.
    readable: Vec<String>,
}

impl Bundles {
    /// Seals each that names a TPM.
    fn new(config: &Config, bundles: Vec<(NodeId, String)>) -> Result<Self> {
        let mut all = Self::default();
        for (id, text) in bundles {
            let node = config.node(id).context("a bundle of no node of the cluster")?;
            if let Some(tpm) = &node.matches.tpm {
                let sealed = serde_yaml::to_string(&seal::seal(node, tpm, &text)?)?;
                all.files.push((format!("{id}{}", sealed::ENDING), sealed));
            } else {
                all.readable.push(node.name.to_string());
                all.files.push((format!("{id}.yaml"), text));
            }
        }
        Ok(all)
    }
}

/// The nodes that were asked for; or why not.
fn choose(file: &Path, config: &Config, asked: &[NodeId]) -> Result<Vec<NodeId>, String> {
    let all: Vec<NodeId> = config.nodes.keys().copied().collect();
    let chosen = if asked.is_empty() { all } else { asked.to_vec() };
    let file = file.display();
    let mut unknown = Vec::new();
    for id in &chosen {
        let node = config.node(*id).ok_or_else(|| format!("{file} has no node {id}"))?;
        unknown.extend((node.matches == Match::default()).then(|| node.name.to_string()));
    }
    if unknown.is_empty() {
        return Ok(chosen);
    }
    Err(format!(
        "{file}: no machine would be recognised as {}: give each `match` with mac, serial, uuid or tpm; a machine that starts \
         from a medium without them shows what to write",
        unknown.join(", ")
    ))
}

/// The newest image that `trilith build` made here.
fn newest_image() -> Result<PathBuf> {
    let folder = Path::new("target/image");
    let none = || format!("no image in {}: give --image", folder.display());
    let entries = fs::read_dir(folder).with_context(none)?.filter_map(Result::ok);
    let images = entries.map(|entry| entry.path());
    let images = images.filter(|path| path.extension().is_some_and(|ending| ending == "raw"));
    let newest = images.max_by_key(|path| path.metadata().and_then(|it| it.modified()).ok());
    let newest = newest.with_context(none)?;
    ensure!(newest.is_file(), "{} is no file", newest.display());
    Ok(newest)
}
