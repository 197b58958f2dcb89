//! Files become targets: whole, on the disk, and named by what they are.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tough::TargetName;
use tough::schema::{Hashes, Target};
use trilith_core::names::Sha256;
use trilith_core::release::Download;

use super::files;
use crate::build::hex;

/// The targets of a release that is being made.
pub(super) struct Store {
    folder: PathBuf,
    pub(super) targets: HashMap<TargetName, Target>,
}

impl Store {
    /// For targets in this folder.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        files::make_folder(folder)?;
        Ok(Self { folder: folder.to_owned(), targets: HashMap::new() })
    }

    /// Moves a finished file of the same file system there.
    pub(super) fn take(&mut self, path: &Path, name: &str) -> Result<Download> {
        let (sha256, size) = files::digest(path)?;
        let place = self.folder.join(format!("{}.{name}", hex(&sha256)));
        // A web server reads it, as whoever that runs as.
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))
            .and_then(|()| files::settle(path, &place))
            .with_context(|| format!("cannot put {} in place", place.display()))?;
        let hashes = Hashes { sha256: sha256.into(), _extra: HashMap::new() };
        let target =
            Target { length: size, hashes, custom: HashMap::new(), _extra: HashMap::new() };
        self.targets.insert(TargetName::new(name)?, target);
        Ok(Download { target: name.to_owned(), size })
    }

    /// The size of one that is there.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        Some(self.targets.get(&TargetName::new(name).ok()?)?.length)
    }

    /// The file of one that is there.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf> {
        let target = self.targets.get(&TargetName::new(name)?);
        let sha256 = &target.with_context(|| format!("there is no target {name}"))?.hashes.sha256;
        Ok(self.folder.join(format!("{}.{name}", hex(sha256))))
    }

    /// Removes what an interrupted release left there: everything of ours that is not among these names.
    pub(super) fn sweep(&self, named: &HashSet<String>) -> Result<()> {
        let listing = || format!("cannot read {}", self.folder.display());
        for entry in fs::read_dir(&self.folder).with_context(listing)? {
            let path = entry.with_context(listing)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ours = name.split_once('.').is_some_and(|(sha256, rest)| {
                Sha256::try_from(sha256.to_owned()).is_ok() && rest.starts_with("trilith_")
            });
            if ours && !named.contains(name) {
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}
