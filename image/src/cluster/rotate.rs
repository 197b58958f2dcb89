//! `trilith cluster rotate`: replaces a secret by a new one.

use std::path::PathBuf;

use clap::Args;
use time::OffsetDateTime;
use trilith_core::config::Config;
use trilith_core::secrets::Secret;

use super::Access;
use super::store::{Authority, ClusterSecrets};
use super::{Cluster, authority, make};
use crate::config;
use crate::exit::{self, Exit};

/// Replace a secret by a new one. Without a name: list what can be replaced.
///
/// Nothing changes on the nodes until they get new bundles.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The cluster file.
    file: PathBuf,
    /// Which secret.
    name: Option<String>,
    /// The cluster has never formed, or its disks are wiped: replace also what
    /// running services keep a copy of.
    #[arg(long)]
    not_formed: bool,
    #[command(flatten)]
    access: Access,
}

/// A secret that can be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Authority,
    Certificates,
    Operator,
    SshHostKeys,
    Bgp,
    ZooKeeper(Keeper),
    Postgres(Account),
    /// The key of one of Ceph's entities, which the monitors keep in their own database.
    Ceph(String),
}

/// The accounts of ZooKeeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Agent,
    Patroni,
}

/// The accounts of Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    Superuser,
    Replication,
    Rewind,
}

impl Kind {
    /// Every secret of a cluster that can be replaced, by name.
    fn all(secrets: &ClusterSecrets) -> Vec<(String, Self)> {
        let own = [
            ("authority", Self::Authority),
            ("certificates", Self::Certificates),
            ("operator", Self::Operator),
            ("ssh-host-keys", Self::SshHostKeys),
            ("bgp", Self::Bgp),
            ("zookeeper-agent", Self::ZooKeeper(Keeper::Agent)),
            ("zookeeper-patroni", Self::ZooKeeper(Keeper::Patroni)),
            ("postgres-superuser", Self::Postgres(Account::Superuser)),
            ("postgres-replication", Self::Postgres(Account::Replication)),
            ("postgres-rewind", Self::Postgres(Account::Rewind)),
        ];
        let own = own.into_iter().map(|(name, kind)| (name.to_owned(), kind));
        let ceph = |entity: &String| (entity.clone(), Self::Ceph(entity.clone()));
        own.chain(secrets.ceph.keys.keys().map(ceph)).collect()
    }

    /// What it is and what follows, for people.
    fn about(&self) -> &'static str {
        match self {
            Self::Authority => {
                "the certificate authority: three steps, each followed by new bundles for all nodes"
            }
            Self::Certificates => "keys and certificates of all nodes and the operator",
            Self::Operator => "key and certificate of the operator",
            Self::SshHostKeys => "SSH host keys of all nodes: clients will ask about them",
            Self::Bgp => {
                "password of BGP inside the cluster: sessions between old and new are down until all have it"
            }
            Self::ZooKeeper(_) => {
                "password of an account of ZooKeeper, to which nothing stored there belongs"
            }
            Self::Postgres(_) => {
                "password of an account of Postgres: the leader takes it over; in between, nodes with the one bundle open \
                 no new connection to nodes with the other, and those that stand go on"
            }
            Self::Ceph(_) => "kept by the running monitors as well: only with --not-formed",
        }
    }
}

/// Carries out the command.
pub(crate) fn run(options: &Options) -> anyhow::Result<Exit> {
    let cluster = match Cluster::read(&options.file)? {
        Ok(cluster) => cluster,
        Err(exit) => return Ok(exit),
    };
    let (vault, mut secrets) = cluster.open(&options.access)?;
    let all = Kind::all(&secrets);
    let Some(name) = &options.name else {
        for (name, kind) in all {
            config::print(&format!("{name}: {}\n", kind.about()))?;
        }
        return Ok(Exit::Ok);
    };
    let Some((_, kind)) = all.iter().find(|(known, _)| known == name) else {
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        let reason = format!(
            "there is no secret {name} to replace; there are {names}. What the cluster file names is \
             replaced by `trilith cluster secrets set`"
        );
        return Ok(exit::usage(&reason));
    };
    if matches!(kind, Kind::Ceph(_)) && !options.not_formed {
        return Ok(exit::usage(&kept(name)));
    }
    let next = rotate(&mut secrets, &cluster.config, kind, super::now())?;
    vault.save(&secrets)?;
    eprintln!("{name}: {next}");
    Ok(Exit::Ok)
}

/// Why it is refused.
fn kept(name: &str) -> String {
    format!(
        "{name} also lies in the database of Ceph's monitors, which would go on with the old key and shut the nodes out: \
         it cannot be replaced in a cluster that runs. Give --not-formed if the cluster has never formed or its disks \
         are wiped"
    )
}

/// Replaces one secret, and says what comes next.
fn rotate(
    secrets: &mut ClusterSecrets,
    config: &Config,
    kind: &Kind,
    now: OffsetDateTime,
) -> anyhow::Result<&'static str> {
    let signer = secrets.authority.current.clone();
    match kind {
        Kind::Authority => return step(secrets, config, now),
        Kind::Certificates => {
            secrets.operator = make::operator(&signer, now)?;
            for node in config.nodes.values() {
                if let Some(own) = secrets.nodes.get_mut(&node.id) {
                    own.identity = make::identity(config, node, &signer, now)?;
                }
            }
        }
        Kind::Operator => secrets.operator = make::operator(&signer, now)?,
        Kind::SshHostKeys => {
            for node in config.nodes.values() {
                if let Some(own) = secrets.nodes.get_mut(&node.id) {
                    own.ssh_host_key = make::ssh_key(node.name.as_str())?.0;
                }
            }
        }
        Kind::Bgp => secrets.bgp = make::password()?,
        Kind::ZooKeeper(Keeper::Agent) => secrets.zookeeper.agent = make::password()?,
        Kind::ZooKeeper(Keeper::Patroni) => secrets.zookeeper.patroni = Some(make::password()?),
        Kind::Postgres(account) => {
            *match account {
                Account::Superuser => &mut secrets.postgres.superuser,
                Account::Replication => &mut secrets.postgres.replication,
                Account::Rewind => &mut secrets.postgres.rewind,
            } = make::password()?;
        }
        Kind::Ceph(entity) => {
            let key: Secret = make::ceph_key(now)?;
            secrets.ceph.keys.insert(entity.clone(), key);
        }
    }
    Ok("replaced; now give every node its new bundle")
}

/// The next of the three steps. At each, nodes with the bundle before and after it trust each other.
fn step(
    secrets: &mut ClusterSecrets,
    config: &Config,
    now: OffsetDateTime,
) -> anyhow::Result<&'static str> {
    let Authority { current, next, last } = &mut secrets.authority;
    if last.take().is_some() {
        return Ok("step 3 of 3: the old one is no longer trusted. Give every node its new bundle");
    }
    if let Some(next) = next.take() {
        *last = Some(std::mem::replace(current, next).certificate);
        make::complete(secrets, config, now)?;
        return Ok(
            "step 2 of 3: the new one has signed all certificates, the old one is still trusted. Give \
                   every node its new bundle, and only then run this again",
        );
    }
    *next = Some(authority::new(config.name.as_str(), now)?);
    Ok(
        "step 1 of 3: a new one is made and trusted, the old one still signs. Give every node its new bundle, and \
        only then run this again",
    )
}

#[cfg(test)]
mod tests;
