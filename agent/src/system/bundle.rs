//! Where the node bundle lies.

use std::path::{Path, PathBuf};

use super::files::{self, FileError};

/// The files that may hold the node bundle; the first that exists counts.
#[derive(Debug, Clone)]
pub(crate) struct Places(Vec<PathBuf>);

impl Places {
    /// One file alone, or the usual ones: what systemd was given for this boot (SMBIOS, a credential on the ESP),
    /// what somebody put there since, and what the installation left.
    pub(crate) fn new(only: Option<&Path>) -> std::io::Result<Self> {
        if let Some(path) = only {
            return Ok(Self(vec![std::path::absolute(path)?]));
        }
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let credential = credentials.map(|folder| folder.join("trilith.bundle"));
        let fixed = ["/run/trilith/bundle.yaml", "/var/lib/trilith/bundle.yaml"];
        Ok(Self(credential.into_iter().chain(fixed.map(PathBuf::from)).collect()))
    }

    /// The paths, in the order in which they count.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.0
    }

    /// Reads the first that exists.
    pub(crate) fn read(&self) -> Result<Option<(PathBuf, String)>, FileError> {
        for path in &self.0 {
            if let Some(found) = files::read(path)? {
                return Ok(Some((path.clone(), found.text)));
            }
        }
        Ok(None)
    }
}
