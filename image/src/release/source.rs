//! What was built: the files of one version in a folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use trilith_core::boot::RootHash;
use trilith_core::version::Version;

use super::files;
use crate::build::{hex, root_hash};

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
    pub(super) fn fingerprint(&self) -> Result<String> {
        let mut all = Sha256::new();
        for part in PARTS {
            all.update(files::digest(&self.path(part))?.0);
        }
        Ok(hex(&all.finalize()))
    }
}
