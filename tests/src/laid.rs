//! A disk as an installation leaves it, made without a machine: divided by the same definitions, with one release in slot A
//! and an empty /var. The node's bundle comes to it another way.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use gpt::GptConfig;
use gpt::partition::Partition;
use trilith_core::boot::RootHash;
use trilith_core::release::Manifest;

use crate::artifact;
use crate::command::run;
use crate::machine::{in_tools, in_tools_with};
use crate::operator::{Operator, version};

/// Where the boot loader is, twice.
const LOADERS: [&str; 2] = ["EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"];
/// Where systemd-boot looks for keys that it gives to firmware in setup mode (systemd-boot(7), "Secure Boot").
const KEYS: &str = "loader/keys/auto";
/// Where the updater stages systems.
const STAGED: &str = "trilith/staged";
/// The variables that they are for.
const VARIABLES: [&str; 3] = ["PK", "KEK", "db"];

/// The numbers of the partitions.
const ESP: u32 = 1;
const SLOT_A: [u32; 2] = [2, 3];
const SLOT_B: [u32; 2] = [4, 5];

const SECTOR: u64 = 512;
/// How much is copied at a time.
const PIECE: usize = 4 << 20;

/// Lays the release of this image onto the disk in a file, which has its size already: boot loader and system as they were
/// signed for the release. With `enroll`, firmware in setup mode gets the operator's keys at the first start.
pub fn lay(file: &Path, operator: &Operator, image: &Path, enroll: bool) -> Result<()> {
    divide(file)?;
    let manifest = fill(file, SLOT_A, operator, image)?;
    let esp = Esp::of(file)?;
    esp.put_system(operator, &manifest, "EFI/Linux")?;
    let loader = operator.target(&manifest.loader.target)?;
    for place in LOADERS {
        esp.put(&loader, place)?;
    }
    if enroll {
        let keys = operator.enroll()?;
        for name in VARIABLES.map(|name| format!("{name}.auth")) {
            esp.put(&keys.join(&name), &format!("{KEYS}/{name}"))?;
        }
    }
    Ok(())
}

/// Stages the release of this image on such a disk as the updater leaves it: in slot B, with its system where no boot loader
/// looks.
pub fn stage(file: &Path, operator: &Operator, image: &Path) -> Result<()> {
    let manifest = fill(file, SLOT_B, operator, image)?;
    Esp::of(file)?.put_system(operator, &manifest, STAGED)
}

/// Makes a stick with this folder of releases on it, as a person does for nodes that reach no web server.
pub fn stick(file: &Path, releases: &Path) -> Result<()> {
    let folder = tempfile::tempdir_in(file.parent().context("a file without a folder")?)?;
    run(Command::new("cp").args(["--archive", "--link"]).arg(releases).arg(folder.path()))?;
    let used = run(Command::new("du").args(["--summarize", "--bytes"]).arg(folder.path()))?;
    let used: u64 = used.split_whitespace().next().context("du says nothing")?.parse()?;
    File::create(file)?.set_len(used + used / 8 + (64 << 20))?;
    let mut make = in_tools("mke2fs", &[folder.path(), file.parent().context("no folder")?])?;
    run(make.args(["-q", "-t", "ext4", "-L", "trilith", "-d"]).arg(folder.path()).arg(file))
        .map(drop)
}

fn divide(file: &Path) -> Result<()> {
    let definitions = artifact::repository().join("overlays/install");
    let folder = file.parent().context("a disk without a folder")?;
    // File systems are made there before they are copied.
    let more = ["--dir", "/var/tmp"].map(String::from);
    let mut repart = in_tools_with("systemd-repart", &[folder, &definitions], &more)?;
    repart.arg(format!("--definitions={}", definitions.display()));
    repart.args(["--empty=force", "--seed=random", "--dry-run=no", "--offline=yes", "--no-pager"]);
    run(repart.arg(file)).map(drop)
}

/// Fills a slot with the release of an image.
fn fill(file: &Path, slot: [u32; 2], operator: &Operator, image: &Path) -> Result<Manifest> {
    let version = version(image)?;
    let manifest = operator.manifest(&version)?;
    let parts = partitions(file)?;
    for (number, ending) in slot.into_iter().zip(["root", "verity"]) {
        copy(&image.with_extension(ending), file, part(&parts, number)?)?;
    }
    name(file, slot, &manifest.root_hash, &version.label())?;
    Ok(manifest)
}

fn partitions(file: &Path) -> Result<BTreeMap<u32, Partition>> {
    let table = GptConfig::new().open(file).context("no partition table was made")?;
    Ok(table.partitions().clone())
}

fn part(parts: &BTreeMap<u32, Partition>, number: u32) -> Result<&Partition> {
    parts.get(&number).with_context(|| format!("no partition {number} was made"))
}

/// Copies a file to the beginning of a partition. What is zero is so already.
fn copy(from: &Path, disk: &Path, to: &Partition) -> Result<()> {
    let reading = || format!("cannot read {}", from.display());
    let mut source = File::open(from).with_context(reading)?;
    let room = (to.last_lba + 1 - to.first_lba) * SECTOR;
    ensure!(source.metadata()?.len() <= room, "{} does not fit into its slot", from.display());
    let mut target = File::options().write(true).open(disk)?;
    target.seek(SeekFrom::Start(to.first_lba * SECTOR))?;
    let mut piece = vec![0; PIECE];
    loop {
        let count = source.read(&mut piece).with_context(reading)?;
        if count == 0 {
            return Ok(());
        }
        if piece[..count].iter().all(|byte| *byte == 0) {
            target.seek(SeekFrom::Current(i64::try_from(count)?))?;
        } else {
            target.write_all(&piece[..count])?;
        }
    }
}

/// Gives a slot the release's label and UUIDs.
fn name(disk: &Path, slot: [u32; 2], hash: &RootHash, label: &str) -> Result<()> {
    let mut table = GptConfig::new().writable(true).open(disk)?;
    let mut parts = table.partitions().clone();
    for (number, uuid) in slot.into_iter().zip([hash.data(), hash.tree()]) {
        let part = parts.get_mut(&number).context("a slot is missing")?;
        (part.name, part.part_guid) = (label.to_owned(), uuid.parse()?);
    }
    table.update_partitions(parts)?;
    table.write()?;
    Ok(())
}

/// The ESP of a disk in a file, as mtools take it.
struct Esp<'a> {
    image: String,
    folder: &'a Path,
}

impl<'a> Esp<'a> {
    fn of(disk: &'a Path) -> Result<Self> {
        let parts = partitions(disk)?;
        let start = part(&parts, ESP)?.first_lba * SECTOR;
        let folder = disk.parent().context("a disk without a folder")?;
        Ok(Self { image: format!("{}@@{start}", disk.display()), folder })
    }

    fn put_system(&self, operator: &Operator, manifest: &Manifest, place: &str) -> Result<()> {
        let system = tempfile::NamedTempFile::new_in(self.folder)?;
        fs::write(&system, operator.whole(&manifest.uki)?)?;
        self.put(system.path(), &format!("{place}/{}.efi", manifest.version.label()))
    }

    fn put(&self, from: &Path, to: &str) -> Result<()> {
        let mut above = String::from("::");
        let folders = to.rsplit_once('/').map(|(folders, _)| folders).unwrap_or_default();
        for folder in folders.split('/') {
            above = format!("{above}/{folder}");
            let mut mdir = in_tools("mdir", &[self.folder])?;
            if run(mdir.args(["-b", "-i", &self.image, &above])).is_err() {
                run(in_tools("mmd", &[self.folder])?.args(["-i", &self.image, &above]))?;
            }
        }
        let source = from.parent().context("a file without a folder")?;
        let mut mcopy = in_tools("mcopy", &[self.folder, source])?;
        run(mcopy.args(["-o", "-i", &self.image]).arg(from).arg(format!("::/{to}"))).map(drop)
    }
}
