//! A disk that may be taken, and what is on it. Nothing is changed by looking.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use trilith_core::install::Candidate;

use crate::block::Device;
use crate::exec;

/// So much of a disk's beginning is zero if nothing is on it: an OSD's label and the root of its database lie there.
const BEGINNING: u64 = 8 << 10;

/// What the kernel and udev say of a disk, without reading it. `booted`: the machine was started from it.
pub(crate) fn about(device: &Device, booted: bool) -> Candidate {
    let is = |file: &str| device.file(file).as_deref() == Some("1");
    let seen = ["ID_PART_TABLE_TYPE", "ID_FS_TYPE"].map(|name| device.property(name));
    Candidate {
        block: device.about(),
        vendor: device.file("device/vendor"),
        booted,
        optical: device.name.starts_with("sr"),
        removable: is("removable"),
        read_only: is("ro"),
        signatures: seen.into_iter().flatten().map(str::to_owned).collect(),
        ..Candidate::default()
    }
}

/// Whether there is anything to look for: a disc turns for minutes before it has said that it cannot be read.
pub(crate) fn can_be_read(disk: &Candidate) -> bool {
    !(disk.booted || disk.optical || disk.block.size == 0)
}

/// What is on a disk and on its partitions, read from there.
pub(crate) fn signatures(device: &Device) -> Result<BTreeSet<String>> {
    let parts = device.partitions().into_iter().map(|(_, path)| path);
    let mut all = BTreeSet::new();
    for path in std::iter::once(device.path()).chain(parts) {
        let path = path.to_str().context("a device without a name")?.to_owned();
        let found = exec::output("wipefs", &["--noheadings", "--output", "TYPE", &path])?;
        all.extend(found.split_whitespace().map(str::to_owned));
    }
    if all.is_empty() && !begins_with_nothing(&device.path())? {
        all.insert("data".into());
    }
    Ok(all)
}

fn begins_with_nothing(path: &Path) -> Result<bool> {
    let mut beginning = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BEGINNING).read_to_end(&mut beginning));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(beginning.iter().all(|byte| *byte == 0))
}
