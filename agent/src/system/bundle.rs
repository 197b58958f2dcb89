//! Where the node bundle lies.

use std::path::{Path, PathBuf};

use super::files::{self, FileError};

/// Where systemd keeps the unit's credentials: a person who runs `trilithd plan` sees what the agent sees.
const CREDENTIALS: &str = "/run/credentials/trilithd.service";

/// The files that may hold the node bundle; the first that exists counts.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    paths: Vec<PathBuf>,
    only: bool,
}

impl Places {
    /// One file alone, or the usual ones: what somebody put there since the boot, what systemd was given for this boot
    /// (SMBIOS, a credential on the ESP), and what the installation left in the agent's folder.
    pub(crate) fn new(only: Option<&Path>, folder: &Path) -> std::io::Result<Self> {
        if let Some(path) = only {
            return Ok(Self { paths: vec![std::path::absolute(path)?], only: true });
        }
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        let credentials = credentials.map_or_else(|| PathBuf::from(CREDENTIALS), PathBuf::from);
        let here = std::path::absolute(folder)?.join("bundle.yaml");
        let paths =
            vec!["/run/trilith/bundle.yaml".into(), credentials.join("trilith.bundle"), here];
        Ok(Self { paths, only: false })
    }

    /// Whether one file alone was named: then nothing is kept beside it.
    pub(crate) fn is_only(&self) -> bool {
        self.only
    }

    /// Whether a bundle lies unencrypted on the disk, and the agent's own folder is where it lies.
    pub(crate) fn is_plain_on_disk(&self, path: &Path) -> bool {
        !self.only && self.paths.last().is_some_and(|last| last == path)
    }

    /// The paths, in the order in which they count.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Reads the first that exists.
    pub(crate) fn read(&self) -> Result<Option<(PathBuf, String)>, FileError> {
        for path in &self.paths {
            if let Some(found) = files::read(path)? {
                return Ok(Some((path.clone(), found.text)));
            }
        }
        Ok(None)
    }
}
