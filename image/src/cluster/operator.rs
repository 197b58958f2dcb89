//! `trilith cluster operator`: the certificate by which a person looks at nodes.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use time::Duration;
use trilith_core::operators::{self, Right};

use super::{Access, Cluster, make};
use crate::exit::{self, Exit};
use crate::vault;

/// How the file is called beside the cluster file, where `trilith node` looks for it.
pub(crate) const FILE: &str = "operator.pem";

/// Make a certificate by which a person looks at nodes (`trilith node`).
///
/// It reads status, journal, network and disks of every node of the cluster,
/// and changes nothing, unless `--admin` is given. Nobody can take it back
/// before its end but by replacing the cluster's authority.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The cluster file.
    file: PathBuf,
    /// Who gets it, a word for the nodes' journals.
    #[arg(long, value_name = "WORD")]
    name: Option<String>,
    /// It may change which release the cluster runs as well (`trilith upgrade`).
    #[arg(long)]
    admin: bool,
    /// For how many days it holds.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=1825))]
    days: u32,
    #[command(flatten)]
    access: Access,
    /// Where to write it and its key, readable by its owner alone. Default:
    /// operator.pem beside the cluster file.
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
}

/// Carries out the command.
pub(crate) fn run(options: &Options) -> anyhow::Result<Exit> {
    let Options { file, name, admin, days, access, output } = options;
    let right = if *admin { Right::Upgrade } else { Right::Look };
    let Some(subject) = operators::subject(right, name.as_deref()) else {
        return Ok(exit::usage("a name is one word of letters, digits, '.', '_' and '-'"));
    };
    let cluster = match Cluster::read(file)? {
        Ok(cluster) => cluster,
        Err(exit) => return Ok(exit),
    };
    let (_vault, secrets) = cluster.open(access)?;
    let life = Duration::days((*days).into());
    let pair = make::person(&secrets.authority.current, &subject, life, super::now())?;
    let text = pair.with_authority(&secrets.authority);
    let path = output.clone().unwrap_or_else(|| file.with_file_name(FILE));
    vault::write_private(&path, text.reveal().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("{}: {subject}, for {days} days", path.display());
    Ok(Exit::Ok)
}
