//! `trilith cluster init`: a new cluster's file, ready to be edited, and its secrets.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use trilith_core::names::ClusterName;

use super::access::NAME as SECRETS;
use super::make;
use crate::exit::Exit;
use crate::vault::{Protection, Vault};

/// The cluster file to start from.
const TEMPLATE: &str = include_str!("init/cluster.yaml");

/// What the template says in place of the cluster's name and the public half of its SSH key.
const NAME: &str = "CLUSTER_NAME";
const KEY: &str = "SSH_PUBLIC_KEY";

/// Write a commented cluster file to start from, and the cluster's secrets.
///
/// The secrets file is encrypted for age recipients, or with a passphrase.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The cluster's name: letters, digits and '-'.
    #[arg(value_parser = cluster_name)]
    name: ClusterName,
    /// The folder for cluster.yaml and secrets.age; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    #[command(flatten)]
    protection: Protection,
}

fn cluster_name(text: &str) -> Result<ClusterName, String> {
    ClusterName::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// Carries out the command.
pub(crate) fn run(options: &Options) -> anyhow::Result<Exit> {
    let Options { name, output, protection } = options;
    let (file, path) = (output.join("cluster.yaml"), output.join(SECRETS));
    for there in [&file, &path] {
        ensure!(!there.exists(), "{} exists already; it is not overwritten", there.display());
    }
    std::fs::create_dir_all(output)
        .with_context(|| format!("cannot make the folder {}", output.display()))?;
    let lock = protection.lock()?;
    let (key, public) = make::ssh_key(&format!("admin@{name}"))?;
    let text = cluster_file(name, &public);
    let config = trilith_core::config::load(&text)
        .map_err(|problems| anyhow!("the cluster file to start from is wrong: {problems:?}"))?;
    let mut secrets = make::cluster(&config, lock.recipients(), super::now())?;
    secrets.ssh_admin = Some(key);
    Vault::create(&path, &lock, &secrets)?;
    write_new(&file, &text).with_context(|| format!("cannot make {}", file.display()))?;
    tell(&file, &path);
    Ok(Exit::Ok)
}

/// The cluster file of a new cluster.
pub(super) fn cluster_file(name: &ClusterName, public_key: &str) -> String {
    TEMPLATE.replace(NAME, name.as_str()).replace(KEY, public_key)
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn tell(file: &Path, path: &Path) {
    let (file, path) = (file.display(), path.display());
    eprintln!(
        "{file}: say in it which networks and servers yours are, then `trilith config check {file}`"
    );
    eprintln!("{path}: keep a copy: without it no node can be added");
    eprintln!("the SSH key to log in with: `trilith cluster secrets show {file} ssh-admin`");
}
