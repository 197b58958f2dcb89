//! Where the node bundle lies.

use std::path::{Path, PathBuf};

use super::files::{self, FileError};

/// Where systemd keeps the unit's credentials: a person who runs `trilithd plan` sees what the agent sees.
const CREDENTIALS: &str = "/run/credentials/trilithd.service";

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
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        let credentials = credentials.map_or_else(|| PathBuf::from(CREDENTIALS), PathBuf::from);
        let fixed = ["/run/trilith/bundle.yaml", "/var/lib/trilith/bundle.yaml"].map(PathBuf::from);
        Ok(Self([credentials.join("trilith.bundle")].into_iter().chain(fixed).collect()))
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
