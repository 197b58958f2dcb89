//! `trilith cluster`: what is made from the cluster file.

mod access; // where its secrets are
mod authority; // certificates
mod init; // a new cluster: its file and its secrets
mod make; // new secrets
pub(crate) mod operator; // a person's certificate
mod rotate; // replaces a secret
mod secrets; // the secrets file as a person works with it
mod store; // what the secrets file holds
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use time::OffsetDateTime;
use trilith_core::bundle::{Bundle, BundleError};
use trilith_core::config::{Config, Node};
use trilith_core::names::{NodeId, SecretName};
use trilith_core::secrets::Secret;

use crate::config;
use crate::exit::{self, Exit};
use crate::vault::{Vault, write_private};
use store::ClusterSecrets;

pub(crate) use access::Access;
pub(crate) use store::KeyPair;

/// Make what belongs to a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Options),
    #[command(subcommand)]
    Secrets(secrets::Command),
    Bundle(BundleOptions),
    Operator(operator::Options),
    Rotate(rotate::Options),
}

/// Write the bundle of one node: the cluster file, the node's ID and the
/// secrets that this node needs.
///
/// What the secrets file lacks for the cluster file, such as the keys of a node
/// that is new in it, is made and kept there; certificates that are half over
/// or no longer say what they must are renewed.
#[derive(Debug, Args)]
pub(crate) struct BundleOptions {
    /// The cluster file; `-` is standard input.
    file: PathBuf,
    /// The node's ID.
    #[arg(long, value_name = "ID", value_parser = config::node_id)]
    node: NodeId,
    #[command(flatten)]
    access: Access,
    /// Where to write it, readable by its owner alone. Default: standard output.
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
}

/// Carries out one command.
pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Init(options) => init::run(&options),
        Command::Secrets(command) => secrets::run(command),
        Command::Bundle(options) => bundle(&options),
        Command::Operator(options) => operator::run(&options),
        Command::Rotate(options) => rotate::run(&options),
    }
}

/// A cluster file that is right.
pub(crate) struct Cluster {
    file: PathBuf,
    pub(crate) text: String,
    pub(crate) config: Config,
}

impl Cluster {
    /// Reads a cluster file. If it has errors, they are told, and the exit code is given.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Result<Self, Exit>> {
        let text = config::read(file)?;
        match trilith_core::config::load(&text) {
            Ok(config) => Ok(Ok(Self { file: file.to_owned(), text, config })),
            Err(problems) => {
                config::complain(file, &text, &problems)?;
                Ok(Err(Exit::BadConfig))
            }
        }
    }

    /// What its secrets file has for a person who looks at nodes.
    pub(crate) fn operator(&self, access: &Access) -> anyhow::Result<Secret> {
        let (_vault, secrets) = self.open(access)?;
        Ok(secrets.operator.with_authority(&secrets.authority))
    }

    /// Opens its secrets file.
    fn open(&self, access: &Access) -> anyhow::Result<(Vault, ClusterSecrets)> {
        let (vault, secrets) = access.open(&self.file)?;
        ensure!(
            secrets.cluster == self.config.name,
            "{} is the cluster {}, and the secrets file is of the cluster {}",
            self.file.display(),
            self.config.name,
            secrets.cluster
        );
        Ok((vault, secrets))
    }
}

fn bundle(options: &BundleOptions) -> anyhow::Result<Exit> {
    let BundleOptions { file, node, access, output } = options;
    let cluster = match Cluster::read(file)? {
        Ok(cluster) => cluster,
        Err(exit) => return Ok(exit),
    };
    if cluster.config.node(*node).is_none() {
        return Ok(exit::usage(&format!("{} has no node {node}", file.display())));
    }
    let bundles = match cluster.bundles(&[*node], access)? {
        Ok(bundles) => bundles,
        Err(exit) => return Ok(exit),
    };
    let Some((_, bundle)) = bundles.first() else { return Ok(Exit::Failed) };
    match output {
        None => config::print(bundle)?,
        Some(path) => write_private(path, bundle.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?,
    }
    Ok(Exit::Ok)
}

impl Cluster {
    /// What the cluster file says.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The bundles of these nodes, which are the cluster's. If secrets are missing for them, that is told, and the exit
    /// code is given.
    pub(crate) fn bundles(
        &self,
        nodes: &[NodeId],
        access: &Access,
    ) -> anyhow::Result<Result<Vec<(NodeId, String)>, Exit>> {
        let nodes: Vec<&Node> = nodes.iter().filter_map(|id| self.config.node(*id)).collect();
        let (vault, mut secrets) = self.open(access)?;
        let before = secrets.clone();
        make::complete(&mut secrets, &self.config, now())?;
        if secrets != before {
            // First kept, then given away: a key that a node has is never lost here.
            vault.save(&secrets)?;
        }
        let missing = nodes.iter().flat_map(|node| secrets.missing(&self.config, node));
        let missing: BTreeSet<SecretName> = missing.collect();
        if !missing.is_empty() {
            for name in &missing {
                eprintln!("trilith: missing: {}", secrets::how_to_set(&self.file, name));
            }
            return Ok(Err(Exit::Failed));
        }
        let bundle = |node: &&Node| Ok((node.id, text(self, node, &secrets)?));
        Ok(Ok(nodes.iter().map(bundle).collect::<anyhow::Result<_>>()?))
    }
}

fn text(cluster: &Cluster, node: &Node, secrets: &ClusterSecrets) -> anyhow::Result<String> {
    let share = secrets.share(&cluster.config, node);
    let share = share.context("the secrets file has nothing of this node")?;
    let signer = &secrets.authority.current.key;
    match Bundle::write(node.id, &cluster.text, &share, signer) {
        Ok(bundle) => Ok(bundle),
        Err(BundleError::BadSecrets(problems)) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::bail!("the secrets file does not fit: {}", problems.join("; "))
        }
        Err(error) => Err(error).context("cannot make the bundle"),
    }
}

/// The one clock here.
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
