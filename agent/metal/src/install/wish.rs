//! What the agent wishes for, and the release on the medium that was booted.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use trilith_core::boot::{self, Boot, RootHash};
use trilith_core::bundle::Bundle;
use trilith_core::install::{Desired, ESP, FOLDER, Release, WISH};

use crate::block::{Device, Devices};
use crate::table;

/// A wish, and what it takes to fulfil it.
pub(super) struct Wish {
    /// What is to be.
    pub(super) desired: Desired,
    /// Whom it is for.
    pub(super) bundle: Bundle,
    /// The same as text.
    pub(super) text: String,
    /// The kernel's name of the disk that was booted.
    pub(super) booted: String,
    /// The release's root hash.
    pub(super) hash: RootHash,
    /// Devices of the release: its root.
    pub(super) root: String,
    /// Its root's hash tree.
    pub(super) tree: String,
    /// Its ESP.
    pub(super) esp: String,
}

impl Wish {
    /// Reads it.
    pub(super) fn read(devices: &Devices) -> Result<Self> {
        let path = Path::new(FOLDER).join(WISH);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("there is no wish in {}", path.display()))?;
        let bundle = Bundle::parse(&text).context("the wish is no bundle")?;
        let told = Path::new(boot::FOLDER).join(boot::FILE);
        let told = fs::read_to_string(&told).context("the initrd has left no word")?;
        let boot: Boot = serde_yaml::from_str(&told).context("the initrd has left another word")?;
        let arguments = fs::read_to_string("/proc/cmdline").context("no kernel command line")?;
        let hash = RootHash::of_command_line(&arguments).context("there is no root hash")?;
        let disk = devices.named(&boot.disk)?;
        let table =
            table::read(&disk)?.with_context(|| format!("{} has no partition table", boot.disk))?;
        let label = table.parts.iter().find(|part| part.uuid == hash.data());
        let label = label.context("the release is not where it was booted from")?.label.clone();
        let release = Release { label, data: hash.data(), tree: hash.tree() };
        let desired = Desired::of(&bundle, release, table.uuid.clone());
        let esp = table.parts.iter().find(|part| part.kind == ESP);
        let esp = esp.context("the medium has no EFI system partition")?.number;
        Ok(Self {
            desired: desired.context("the node is diskless")?,
            bundle,
            text,
            hash,
            root: format!("/dev/{}", boot.data),
            tree: format!("/dev/{}", boot.hash),
            esp: device(&disk, esp)?,
            booted: boot.disk,
        })
    }
}

fn device(disk: &Device, number: u32) -> Result<String> {
    let device = disk.partition(number);
    let device =
        device.with_context(|| format!("partition {number} of {} is not there", disk.name))?;
    Ok(device.display().to_string())
}
