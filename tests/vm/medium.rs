//! A medium is written to a real disk: only to the one that is meant, and never to one in use.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::command::{output, run};
use trilith_tests::machine::in_tools;

/// More than a medium needs, and no multiple of what is written at a time.
const SIZE: u64 = (4 << 30) + 4096;

#[test]
fn a_disk_is_destroyed_only_by_its_name() -> Result<()> {
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    let image = artifact::image()?;
    let disk = Loop::new(SIZE)?;
    run(Command::new("mkfs.ext4").arg("-q").arg(&disk.device))?;
    let before = head(&disk.device)?;
    let refused = |name: Option<&str>, words: &[&str]| -> Result<()> {
        let mut usb = cluster.usb(&image, &disk.device)?;
        usb.args(name.map(|name| ["--yes-wipe", name]).iter().flatten());
        let output = output(&mut usb)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        eprintln!("{said}");
        ensure!(!output.status.success(), "it was written");
        ensure!(words.iter().all(|word| said.contains(word)), "{words:?} are missing");
        ensure!(head(&disk.device)? == before, "something was written");
        Ok(())
    };
    let name = disk.name()?;
    // What is on it, lsblk knows from udev, which need not run here.
    refused(None, &["4096 MiB", &format!("--yes-wipe {name}")])?;
    refused(Some("WD-1234"), &[&format!("is the disk {name}, not WD-1234")])?;
    let mounted = disk.mount()?;
    refused(Some(&name), &["in use", "mounted"])?;
    drop(mounted);

    let mut usb = cluster.usb(&image, &disk.device)?;
    let done = output(usb.args(["--yes-wipe", &name]))?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{said}");
    for words in ["writing: 100 %", "verifying: 100 %", "readable by whoever holds it"] {
        ensure!(said.contains(words), "{words} is not in {said}");
    }
    let table = run(in_tools("sfdisk", &[])?.arg("--verify").arg(&disk.device))?;
    ensure!(table.contains("No errors detected"), "{table}");
    Ok(())
}

fn head(device: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(device)?.take(4 << 20).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file as a disk. It goes when this value goes out of scope.
struct Loop {
    device: PathBuf,
    folder: TempDir,
}

/// A mounted file system.
struct Mounted<'a>(&'a Path);

impl Loop {
    fn new(size: u64) -> Result<Self> {
        let folder = TempDir::new_in(artifact::target())?;
        let file = folder.path().join("disk");
        File::create(&file)?.set_len(size)?;
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&file))?;
        Ok(Self { device: device.trim().into(), folder })
    }

    /// What names it: it has no serial number.
    fn name(&self) -> Result<String> {
        let name = self.device.file_name().context("a device without a name")?;
        Ok(name.to_string_lossy().into_owned())
    }

    fn mount(&self) -> Result<Mounted<'_>> {
        let at = self.folder.path().join("mounted");
        fs::create_dir(&at)?;
        run(Command::new("mount").args(["-o", "ro,noload"]).arg(&self.device).arg(&at))?;
        Ok(Mounted(&self.device))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(self.0));
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run(Command::new("losetup").arg("--detach").arg(&self.device));
    }
}
