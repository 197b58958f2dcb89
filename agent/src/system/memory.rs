//! What the agent remembers on the disk: whom the machine belongs to, and the last good bundle, encrypted.

use std::path::{Path, PathBuf};

use super::credentials::{self, CredentialError};
use super::files::{self, FileError, Ids, Staged};

/// Where it lies if the operator says nothing else: the unit's `StateDirectory`.
pub(crate) const FOLDER: &str = "/var/lib/trilith";

/// The name of the encrypted bundle; systemd-creds refuses it under any other.
const NAME: &str = "trilith.bundle";

/// What could not be remembered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// The folder of what is remembered.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    belonging: PathBuf,
    bundle: PathBuf,
}

impl Memory {
    pub(crate) fn new(folder: &Path) -> std::io::Result<Self> {
        let folder = std::path::absolute(folder)?;
        Ok(Self { belonging: folder.join("belonging.yaml"), bundle: folder.join("bundle.cred") })
    }

    /// The file that says whom the machine belongs to.
    pub(crate) fn belonging_path(&self) -> &Path {
        &self.belonging
    }

    /// Whom the machine belongs to, as text.
    pub(crate) fn belonging(&self) -> Result<Option<String>, MemoryError> {
        Ok(files::read(&self.belonging)?.map(|found| found.text))
    }

    /// Remembers it.
    pub(crate) fn join(&self, belonging: &str) -> Result<(), MemoryError> {
        Ok(Staged::new(&self.belonging, belonging, 0o600, Ids::us())?.replace()?)
    }

    /// The file of the encrypted bundle.
    pub(crate) fn bundle_path(&self) -> &Path {
        &self.bundle
    }

    /// The bundle that was kept.
    pub(crate) async fn bundle(&self) -> Result<Option<String>, MemoryError> {
        let Some(found) = files::read(&self.bundle)? else { return Ok(None) };
        Ok(Some(credentials::decrypt(NAME, &found.text).await?))
    }

    /// Keeps a bundle in place of the one before.
    pub(crate) async fn keep(&self, bundle: &str) -> Result<(), MemoryError> {
        let blob = credentials::encrypt(NAME, bundle).await?;
        Ok(Staged::new(&self.bundle, &format!("{blob}\n"), 0o600, Ids::us())?.replace()?)
    }
}
