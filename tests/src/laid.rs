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

use crate::artifact;
use crate::command::run;
use crate::machine::{in_tools, in_tools_with};
use crate::operator::{Operator, version};

/// Where the boot loader is, twice.
const LOADERS: [&str; 2] = ["EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"];
/// Where systemd-boot looks for keys that it gives to firmware in setup mode (systemd-boot(7), "Secure Boot").
const KEYS: &str = "loader/keys/auto";
/// The variables that they are for.
const VARIABLES: [&str; 3] = ["PK", "KEK", "db"];

/// The numbers of the partitions.
const ESP: u32 = 1;
const SLOT_A: [u32; 2] = [2, 3];

const SECTOR: u64 = 512;
/// How much is copied at a time.
const PIECE: usize = 4 << 20;

/// Lays the release of this image onto the disk in a file, which has its size already: boot loader and system as they were
/// signed for the release. With `enroll`, firmware in setup mode gets the operator's keys at the first start.
pub fn lay(file: &Path, operator: &Operator, image: &Path, enroll: bool) -> Result<()> {
    divide(file)?;
    let version = version(image)?;
    let manifest = operator.manifest(&version)?;
    let table = GptConfig::new().open(file).context("no partition table was made")?;
    let parts = table.partitions().clone();
    for (number, ending) in SLOT_A.into_iter().zip(["root", "verity"]) {
        copy(&image.with_extension(ending), file, part(&parts, number)?)?;
    }
    name(file, &manifest.root_hash, &version.label())?;
    let folder = file.parent().context("a disk without a folder")?;
    let work = tempfile::tempdir_in(folder)?;
    let esp = Esp {
        image: format!("{}@@{}", file.display(), part(&parts, ESP)?.first_lba * SECTOR),
        folder,
    };
    let system = work.path().join("system.efi");
    fs::write(&system, operator.whole(&manifest.uki)?)?;
    let loader = work.path().join("loader.efi");
    fs::copy(operator.target(&manifest.loader.target)?, &loader)?;
    for place in LOADERS {
        esp.put(&loader, place)?;
    }
    esp.put(&system, &format!("EFI/Linux/{}.efi", version.label()))?;
    if enroll {
        let keys = operator.enroll()?;
        for name in VARIABLES.map(|name| format!("{name}.auth")) {
            let key = work.path().join(&name);
            fs::copy(keys.join(&name), &key)?;
            esp.put(&key, &format!("{KEYS}/{name}"))?;
        }
    }
    Ok(())
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

/// Gives slot A the release's label and UUIDs.
fn name(disk: &Path, hash: &RootHash, label: &str) -> Result<()> {
    let mut table = GptConfig::new().writable(true).open(disk)?;
    let mut parts = table.partitions().clone();
    for (number, uuid) in SLOT_A.into_iter().zip([hash.data(), hash.tree()]) {
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

impl Esp<'_> {
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
        let mut mcopy = in_tools("mcopy", &[self.folder])?;
        run(mcopy.args(["-o", "-i", &self.image]).arg(from).arg(format!("::/{to}"))).map(drop)
    }
}
