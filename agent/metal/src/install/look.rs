//! Every disk, and what is on it. Nothing is changed by looking.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use trilith_core::install::{Candidate, Layout, Observed, System};

use super::mounted::{Mounted, Way};
use super::wish::Wish;
use super::{state, table, told};
use crate::block::{Device, Devices};
use crate::{esp, exec};

/// So much of a disk's beginning is zero if nothing is on it: an OSD's label and the root of its database lie there.
const BEGINNING: u64 = 8 << 10;

/// All disks.
pub(super) fn observe(devices: &Devices, wish: &Wish) -> Result<Observed> {
    let all = devices.all()?.into_iter();
    let disks = all.filter(|device| device.is_disk() || device.name == wish.booted);
    let disks = disks.map(|device| Ok((device.name.clone(), candidate(&device, wish)?)));
    Ok(Observed { disks: disks.collect::<Result<_>>()? })
}

fn candidate(device: &Device, wish: &Wish) -> Result<Candidate> {
    let is = |file: &str| device.file(file).as_deref() == Some("1");
    let mut disk = Candidate {
        block: device.about(),
        vendor: device.file("device/vendor"),
        booted: device.name == wish.booted,
        optical: device.name.starts_with("sr"),
        removable: is("removable"),
        read_only: is("ro"),
        ..Candidate::default()
    };
    // A disc turns for minutes before it has said that it cannot be read.
    if disk.booted || disk.optical || disk.block.size == 0 {
        return Ok(disk);
    }
    disk.signatures = signatures(device)?;
    if let Some(layout) = table::layout(device)? {
        disk.system = Some(system(device, layout, wish)?);
    }
    Ok(disk)
}

/// What is on a disk and on its partitions.
fn signatures(device: &Device) -> Result<BTreeSet<String>> {
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

/// What an installation has left.
fn system(device: &Device, layout: Layout, wish: &Wish) -> Result<System> {
    let part = |number: u32| {
        let path = device.partition(number);
        let path =
            path.with_context(|| format!("partition {number} of {} is not there", device.name))?;
        Ok::<_, anyhow::Error>(path.display().to_string())
    };
    let device = part(layout.var.number)?;
    let var = state::read(&device, wish);
    // One that cannot be read holds nothing: whoever writes to it says what is wrong with it.
    let found = on_esp(&part(layout.esp.number)?, &device, wish).unwrap_or_default();
    let OnEsp { installed_from, kernel, told } = found;
    Ok(System { layout, installed_from, kernel, var, told })
}

#[derive(Default)]
struct OnEsp {
    installed_from: Option<String>,
    kernel: bool,
    told: u32,
}

fn on_esp(device: &str, var: &str, wish: &Wish) -> Result<OnEsp> {
    let release = Mounted::esp(&wish.esp, Way::Read)?;
    let esp = Mounted::esp(device, Way::Read)?;
    let found = OnEsp {
        installed_from: esp::installed_from(esp.path())?,
        kernel: esp::holds(esp.path(), release.path())?,
        told: told::times(esp.path(), var)?,
    };
    esp.close()?;
    release.close()?;
    Ok(found)
}
