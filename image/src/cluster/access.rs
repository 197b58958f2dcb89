//! Where a cluster's secrets are.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::store::{self, ClusterSecrets};
use crate::vault::{Kept, Unlock, Vault};

/// The secrets file beside the cluster file.
pub(crate) const NAME: &str = "secrets.age";

/// How an existing secrets file is found and opened.
#[derive(Debug, Args)]
pub(crate) struct Access {
    /// The secrets file. Default: secrets.age beside the cluster file.
    #[arg(long, value_name = "PATH")]
    secrets: Option<PathBuf>,
    #[command(flatten)]
    unlock: Unlock,
}

impl Access {
    /// Where the secrets file of a cluster file is.
    pub(crate) fn path(&self, cluster: &Path) -> anyhow::Result<PathBuf> {
        match &self.secrets {
            Some(path) => Ok(path.clone()),
            None if cluster == Path::new("-") => {
                bail!("a cluster file on standard input has no secrets file beside it: --secrets")
            }
            None => Ok(cluster.with_file_name(NAME)),
        }
    }

    /// Opens the secrets file of a cluster file.
    pub(crate) fn open(&self, cluster: &Path) -> anyhow::Result<(Vault, ClusterSecrets)> {
        self.unlock.open(&self.path(cluster)?)
    }
}

impl Kept for ClusterSecrets {
    const WHAT: &'static str = "secrets file";
    const MADE_BY: &'static str = "trilith cluster secrets init";
    const VERSION: u32 = store::VERSION;

    fn recipients(&self) -> &[String] {
        &self.recipients
    }
}
