//! `trilith cluster secrets`: the secrets file of a cluster file.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::{Subcommand, ValueEnum};
use trilith_core::names::SecretName;
use trilith_core::secrets::Secret;
use trilith_core::secrets::needs::all_named;

use super::access::{Access, NAME};
use super::store::ClusterSecrets;
use super::{Cluster, make};
use crate::config;
use crate::exit::Exit;
use crate::vault::{Protection, Vault};

/// Make, list, set and show a cluster's secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the secrets file of an existing cluster file.
    Init {
        /// The cluster file.
        file: PathBuf,
        /// Where to write it. Default: secrets.age beside the cluster file.
        #[arg(long, value_name = "PATH")]
        secrets: Option<PathBuf>,
        #[command(flatten)]
        protection: Protection,
    },
    /// List the secrets that the cluster file names, and which of them are
    /// still missing.
    List {
        /// The cluster file.
        file: PathBuf,
        #[command(flatten)]
        access: Access,
    },
    /// Set a secret that the cluster file names, such as the password of a
    /// router upstream. It is asked for, or read from standard input.
    Set {
        /// The cluster file.
        file: PathBuf,
        /// Its name in the cluster file.
        #[arg(value_parser = secret_name)]
        name: SecretName,
        #[command(flatten)]
        access: Access,
    },
    /// Print a secret that an operator works with.
    Show {
        /// The cluster file.
        file: PathBuf,
        /// Which one.
        name: Shown,
        #[command(flatten)]
        access: Access,
    },
}

/// What an operator works with.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Shown {
    /// The certificates of the cluster's authority, in PEM.
    Authority,
    /// The operator's certificate and key towards the nodes, in PEM.
    Operator,
    /// The SSH key that `trilith cluster init` let in.
    SshAdmin,
    /// The key of Ceph's client.admin.
    CephAdmin,
    /// The password of Postgres' superuser.
    Postgres,
}

/// Carries out one command.
pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Init { file, secrets, protection } => init(&file, secrets, &protection),
        Command::List { file, access } => list(&file, &access),
        Command::Set { file, name, access } => set(&file, name, &access),
        Command::Show { file, name, access } => show(&file, name, &access),
    }
}

fn secret_name(text: &str) -> Result<SecretName, String> {
    SecretName::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn init(file: &Path, path: Option<PathBuf>, protection: &Protection) -> anyhow::Result<Exit> {
    let cluster = match Cluster::read(file)? {
        Ok(cluster) => cluster,
        Err(exit) => return Ok(exit),
    };
    let path = path.unwrap_or_else(|| file.with_file_name(NAME));
    ensure!(!path.exists(), "{} exists already; it is not overwritten", path.display());
    let lock = protection.lock()?;
    let secrets = make::cluster(&cluster.config, lock.recipients(), super::now())?;
    Vault::create(&path, &lock, &secrets)?;
    eprintln!("{} made; keep a copy: without it no node can be added", path.display());
    for name in all_named(&cluster.config) {
        eprintln!("still missing: {}", how_to_set(file, &name));
    }
    Ok(Exit::Ok)
}

/// What gives a secret that is missing.
pub(crate) fn how_to_set(file: &Path, name: &SecretName) -> String {
    format!("secret {name}; give it by `trilith cluster secrets set {} {name}`", file.display())
}

fn list(file: &Path, access: &Access) -> anyhow::Result<Exit> {
    let cluster = match Cluster::read(file)? {
        Ok(cluster) => cluster,
        Err(exit) => return Ok(exit),
    };
    let (_, secrets) = cluster.open(access)?;
    for name in all_named(&cluster.config) {
        let state = if secrets.named.contains_key(&name) { "set" } else { "missing" };
        config::print(&format!("{name} {state}\n"))?;
    }
    Ok(Exit::Ok)
}

fn set(file: &Path, name: SecretName, access: &Access) -> anyhow::Result<Exit> {
    let cluster = match Cluster::read(file)? {
        Ok(cluster) => cluster,
        Err(exit) => return Ok(exit),
    };
    let named = all_named(&cluster.config);
    if !named.contains(&name) {
        let all: Vec<&str> = named.iter().map(SecretName::as_str).collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        bail!("{} names no secret {name}; it names: {all}", file.display());
    }
    let (vault, mut secrets) = cluster.open(access)?;
    let value = value(&name)?;
    secrets.named.insert(name, value);
    vault.save(&secrets)?;
    Ok(Exit::Ok)
}

/// Asks a person, or reads standard input without its last line break.
fn value(name: &SecretName) -> anyhow::Result<Secret> {
    let text = if std::io::stdin().is_terminal() {
        rpassword::prompt_password(format!("Secret {name}: "))
            .context("cannot ask for the secret")?
    } else {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        text
    };
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    ensure!(!line.is_empty(), "the secret is empty");
    ensure!(!line.contains(char::is_control), "the secret is more than one line of text");
    Ok(Secret::from(line.to_owned()))
}

fn show(file: &Path, name: Shown, access: &Access) -> anyhow::Result<Exit> {
    let cluster = match Cluster::read(file)? {
        Ok(cluster) => cluster,
        Err(exit) => return Ok(exit),
    };
    let (_, secrets) = cluster.open(access)?;
    config::print(&shown(&secrets, name)?)?;
    Ok(Exit::Ok)
}

fn shown(secrets: &ClusterSecrets, name: Shown) -> anyhow::Result<String> {
    let line = |secret: &Secret| format!("{}\n", secret.reveal());
    Ok(match name {
        Shown::Authority => secrets.authority.trusted(),
        Shown::Operator => {
            format!("{}{}", secrets.operator.certificate, secrets.operator.key.reveal())
        }
        Shown::SshAdmin => {
            let key = secrets.ssh_admin.as_ref();
            key.context("the cluster was not made by `trilith cluster init`: it has no such key")?
                .reveal()
                .to_owned()
        }
        Shown::CephAdmin => {
            let key = secrets.ceph.keys.get("client.admin");
            line(key.ok_or_else(|| anyhow!("the secrets file has no key of client.admin"))?)
        }
        Shown::Postgres => line(&secrets.postgres.superuser),
    })
}
