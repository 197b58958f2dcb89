//! What was built: the files of one version in a folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use trilith_core::boot::RootHash;
use trilith_core::version::Version;

use super::files;
use crate::build::{SUMS, hex, root_hash};

/// A build.
pub(super) struct Source {
    folder: PathBuf,
    pub(super) version: Version,
    pub(super) root_hash: RootHash,
}

/// What of a build is released, by the ends of the names.
const PARTS: [&str; 5] = ["efi", "root", "verity", "packages.txt", "spdx.json"];

impl Source {
    /// Finds the one in a folder; of several the one that was made last.
    pub(super) fn find(folder: &Path) -> Result<Self> {
        let reading = || format!("cannot read {}; `trilith build` makes a build", folder.display());
        let entries = fs::read_dir(folder).with_context(reading)?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let ukis = paths.filter(|path| path.extension().is_some_and(|end| end == "efi"));
        let uki = ukis.max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok());
        let uki = uki.with_context(|| format!("{} has no build in it", folder.display()))?;
        let name = uki.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let version = Version::of_label(name);
        let version = version.with_context(|| format!("{} has an odd name", uki.display()))?;
        let root_hash = RootHash::try_from(root_hash(&uki)?)?;
        let source = Self { folder: folder.to_owned(), version, root_hash };
        if let Some(missing) = PARTS.map(|end| source.path(end)).iter().find(|path| !path.is_file())
        {
            bail!("{} is missing", missing.display());
        }
        Ok(source)
    }

    /// One of its files, by the end of the name.
    pub(super) fn path(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.version.label()))
    }

    /// What it is, before anything is signed: two builds of one version differ in it.
    ///
    /// # Errors
    /// The files are not of one build: one that was cut off has left a part of another, which nobody could start.
    pub(super) fn fingerprint(&self) -> Result<String> {
        let path = self.path(SUMS);
        let sums = fs::read_to_string(&path);
        let sums = sums.with_context(|| format!("cannot read {}", path.display()))?;
        let mut all = Sha256::new();
        for part in PARTS {
            let path = self.path(part);
            let digest = files::digest(&path)?.0;
            let line = format!("{}  {}.{part}", hex(&digest), self.version.label());
            ensure!(
                sums.lines().any(|it| it == line),
                "{} is not what {SUMS} says: the build was cut off; build {} again",
                path.display(),
                self.version
            );
            all.update(digest);
        }
        Ok(hex(&all.finalize()))
    }
}
