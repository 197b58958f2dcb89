//! Roots of releases, as a kernel can mount them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::artifact;
use crate::lab::Release;

/// A release whose root lies in a folder of releases is unpacked, once: its file is called by its own digest there.
pub fn unpacked(release: &Release) -> Result<Release> {
    let packed = &release.root;
    if packed.extension().is_none_or(|end| end != "zst") {
        return Ok(release.clone());
    }
    let folder = artifact::target().join("lab-roots");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let root = folder.join(packed.file_stem().context("a root without a name")?);
    if !root.exists() {
        unpack(packed, &root).with_context(|| format!("cannot unpack {}", packed.display()))?;
    }
    Ok(Release { version: release.version.clone(), root })
}

fn unpack(packed: &Path, root: &Path) -> Result<()> {
    let new = root.with_extension("new");
    let mut from = zstd::Decoder::new(File::open(packed)?)?;
    io::copy(&mut from, &mut File::create(&new)?)?;
    Ok(fs::rename(&new, root)?)
}
