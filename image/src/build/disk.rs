//! The image itself: package layer, our files, agent and initrd become a root with its hash tree, a UKI
//! with the root hash in it, and a disk that holds all three.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::agent::Agent;
use super::initrd;
use super::key::Key;
use super::mkosi;
use super::packages::Packages;
use super::place::{self, Place};
use super::progress::Progress;
use super::release::{Release, SEED};
use super::site::Site;
use super::tools::Tools;
use crate::exec;

/// What the image is made of.
pub(crate) struct Parts<'a> {
    /// Name, version and times.
    pub(crate) release: &'a Release,
    /// The package layer.
    pub(crate) packages: &'a Packages,
    /// The initrd.
    pub(crate) initrd: &'a Path,
    /// The agent.
    pub(crate) agent: &'a Agent,
    /// The operator's additions.
    pub(crate) site: Option<&'a Site>,
}

impl Parts<'_> {
    /// The key of the image: it changes with everything that the image is made from.
    pub(crate) fn key(&self, place: &Place) -> Result<String> {
        let Self { release, packages, initrd, agent, site } = self;
        let mut key = Key::new("image 2").text(&packages.key);
        key = key.text(&release.name()).text(&release.epoch.to_string());
        key = key
            .tree(initrd)?
            .tree(&agent.initrd)?
            .tree(&agent.tree)?
            .tree(&place.top.join("mkosi.conf"))?;
        for overlay in ["rootfs", "both", "repart", "install", "seal"] {
            key = key.tree(&place.overlay(overlay))?;
        }
        if let Some(site) = site {
            key = key.tree(site.folder())?;
        }
        Ok(key.finish())
    }
}

/// Makes the image; gives the folder with what mkosi made, under mkosi's names.
pub(crate) fn make(
    place: &Place,
    progress: &Progress,
    tools: &Tools,
    parts: &Parts<'_>,
) -> Result<PathBuf> {
    progress.step("image: mkosi (root, hash tree, UKI, disk)");
    let output = place.fresh("image")?;
    let Parts { release, packages, initrd: base, agent, site } = parts;
    let programs = initrd::programs(place, tools, agent)?;
    let mut command = mkosi::command(place, tools, &place.top);
    command.arg("--base-tree").arg(&packages.root).arg("--initrd").arg(base);
    command.arg("--initrd").arg(programs);
    command.arg("--extra-tree").arg(&agent.tree);
    if let Some(site) = site {
        if let Some(rootfs) = site.rootfs() {
            command.arg("--extra-tree").arg(rootfs);
        }
        for argument in site.kernel_arguments(place, tools)? {
            command.arg(format!("--kernel-command-line={argument}"));
        }
    }
    command.arg(format!("--image-version={}", release.version));
    command.arg(format!("--source-date-epoch={}", release.epoch));
    command.arg(format!("--seed={SEED}"));
    // Nothing is fetched any more.
    command.args(["--cache-only=always", "--output-dir"]).arg(&output).args(["--force", "build"]);
    exec::run(&mut command, &place.log("image"), mkosi::SHOWN)?;
    Ok(output)
}

/// Moves what mkosi made to where it was asked for. Only the disk image ends in `.raw`: the others are
/// no disks.
pub(crate) fn publish(made: &Path, release: &Release, output: &Path) -> Result<()> {
    let name = release.name();
    for (from, to) in
        [("raw", "raw"), ("efi", "efi"), ("root.raw", "root"), ("verity.raw", "verity")]
    {
        let from = made.join(format!("{name}.{from}"));
        let to = output.join(format!("{name}.{to}"));
        // Between file systems renaming does not work; copying does.
        if fs::rename(&from, &to).is_err() {
            fs::copy(&from, &to).with_context(|| format!("cannot write {}", to.display()))?;
        }
    }
    place::remove(made)
}

/// The root hash, out of the UKI's command line.
///
/// # Errors
/// The UKI cannot be read or has none, which would boot any root.
pub(crate) fn root_hash(uki: &Path) -> Result<String> {
    let bytes = fs::read(uki).with_context(|| format!("cannot read {}", uki.display()))?;
    find_root_hash(&bytes).with_context(|| format!("{} has no root hash in it", uki.display()))
}

fn find_root_hash(uki: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"roothash=";
    let mut rest = uki;
    while let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK) {
        rest = &rest[at + MARK.len()..];
        let hash: String = rest.iter().take(64).map(|byte| char::from(*byte)).collect();
        // The kernel and the initrd speak of root hashes, too, without one behind the sign.
        if hash.len() == 64 && hash.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            return Some(hash);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_hash_is_the_one_with_digits() {
        let hash = "0123456789abcdef".repeat(4);
        let uki = format!("roothash=%s\0roothash=\0..roothash={hash} ro");
        assert_eq!(find_root_hash(uki.as_bytes()), Some(hash));
        assert_eq!(find_root_hash(b"roothash=12"), None);
    }
}
