//! Partitions, as definitions ask for them (systemd-repart).

use anyhow::{Context as _, Result};

use crate::block::Device;
use crate::exec;

/// Divides a disk anew, by the definitions in this folder. The program makes the file systems first, and writes the table
/// when they are there.
pub(crate) fn divide(disk: &Device, definitions: &str) -> Result<()> {
    repart(disk, definitions, &["--empty=force", "--seed=random"])
}

/// Lets what is on the disk take the room that it has by these definitions: the disk may have grown.
pub(crate) fn grow(disk: &Device, definitions: &str) -> Result<()> {
    repart(disk, definitions, &[])
}

fn repart(disk: &Device, definitions: &str, how: &[&str]) -> Result<()> {
    let path = disk.path();
    let path = path.to_str().context("a disk without a name")?;
    let definitions = format!("--definitions={definitions}");
    let common = ["--dry-run=no", "--no-pager", "--no-legend", &definitions, path];
    // It draws what it does, over several lines of the console.
    exec::output("systemd-repart", &[how, &common].concat()).map(drop)
}
