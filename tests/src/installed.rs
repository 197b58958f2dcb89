//! What is on an installed disk, seen from outside while its machine is off.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::partition_types::EFI;

use crate::artifact;
use crate::command::run;
use crate::machine::{Disk, in_tools};

/// Where the boot loader looks for systems, and where the firmware looks for it.
const SYSTEMS: &str = "::/EFI/Linux";
const LOADERS: [&str; 2] = ["::/EFI/systemd/systemd-bootx64.efi", "::/EFI/BOOT/BOOTX64.EFI"];

/// What a disk is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing starts from it.
    Nothing,
    /// The whole release is on it.
    Release,
}

/// Looks at a disk that the release of [`artifact::image`] was installed on, to the end or not.
///
/// # Errors
/// It is neither: it would start, and something of what it needs is not as it should be.
pub fn look(disk: &Disk, file: &Path) -> Result<Found> {
    let block = u64::from(disk.sector);
    let sectors = LogicalBlockSize::try_from(block).context("sectors of an unknown size")?;
    // Not written yet, or cut off while it was.
    let Ok(table) = GptConfig::new().logical_block_size(sectors).open(file) else {
        return Ok(Found::Nothing);
    };
    let named = |name: &str| table.partitions().values().find(|part| part.name == name);
    let Some(esp) = named("trilith-esp") else { return Ok(Found::Nothing) };
    let esp = Esp { file: file.to_owned(), offset: esp.first_lba * block };
    let systems = esp.list(SYSTEMS);
    let Some(system) = systems.iter().find(|name| !is_unfinished(name)) else {
        return Ok(Found::Nothing);
    };
    for loader in LOADERS {
        ensure!(!esp.read(loader)?.is_empty(), "it starts, and {loader} is empty");
    }
    let image = artifact::image()?;
    let uki = fs::read(image.with_extension("efi"))?;
    ensure!(esp.read(system)? == uki, "{system} is not the release's");
    let label =
        image.file_stem().and_then(|stem| stem.to_str()).context("an image without a name")?;
    for (kind, extension) in [("root", "root"), ("hash tree", "verity")] {
        let expected = image.with_extension(extension);
        let is_it = |part: &&gpt::partition::Partition| {
            let size = (part.last_lba + 1 - part.first_lba) * block;
            part.name == label && (size > 1 << 30) == (extension == "root")
        };
        let part = table.partitions().values().find(is_it);
        let part = part.with_context(|| format!("it starts, and no {kind} is named {label}"))?;
        let same = same(file, part.first_lba * block, &expected)?;
        ensure!(same, "it starts, and its {kind} is not the release's");
    }
    Ok(Found::Release)
}

/// Gives the one system on a raw disk image tries, as if it had been activated: `+3`.
///
/// # Errors
/// There is no ESP on it, or not one system.
pub fn put_on_trial(image: &Path) -> Result<()> {
    let table = GptConfig::new().open(image).context("no partition table")?;
    // Read-only: the table is looked at, the file system is changed.
    let esp = table.partitions().values().find(|part| part.part_type_guid == EFI);
    let offset = esp.context("no ESP")?.first_lba * 512;
    let esp = Esp { file: image.to_owned(), offset };
    let systems = esp.list(SYSTEMS);
    let [system] = systems.as_slice() else { anyhow::bail!("not one system: {systems:?}") };
    let stem = system.strip_suffix(".efi").context("a system with another name")?;
    esp.mtools("mren", &[system, &format!("{stem}+3.efi")]).map(drop)
}

/// Whether a file has not got its name yet.
fn is_unfinished(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "part")
}

/// Whether nobody has ever written to a disk that was empty.
pub fn is_untouched(file: &Path) -> Result<bool> {
    Ok(file.metadata()?.blocks() == 0)
}

/// The SHA-256 of all of a disk.
pub fn digest(file: &Path) -> Result<String> {
    let said = run(Command::new("sha256sum").arg(file))?;
    Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Makes a real OSD of Ceph on a disk, by the image's own programs. It belongs to no cluster that there is.
pub fn make_osd(file: &Path) -> Result<()> {
    let layer = artifact::layer()?;
    let folder = tempfile::tempdir_in(file.parent().context("a disk without a folder")?)?;
    let mut command = Command::new("bwrap");
    command.arg("--ro-bind").args([&layer, Path::new("/")]);
    command.args(["--dev-bind", "/dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]);
    command.args(["--tmpfs", "/run", "--dir", "/run/ceph", "--tmpfs", "/var"]);
    command.args(["--symlink", "/run", "/var/run", "--tmpfs", "/mnt"]);
    let place = Path::new("/mnt/disk");
    symlink(place, folder.path().join("block"))?;
    command.arg("--bind").args([folder.path(), Path::new("/mnt/data")]);
    command.arg("--bind").args([file, place]);
    command.args(["--die-with-parent", "--cap-add", "ALL", "--", "ceph-osd", "-i", "0"]);
    command.args(["--conf", "/dev/null", "--mkfs", "--osd-objectstore", "bluestore"]);
    command.args(["--osd-data", "/mnt/data", "--no-mon-config"]);
    command.args(["--osd-uuid", "5f3c2c1e-0000-4000-8000-000000000001"]);
    command.args(["--fsid", "5f3c2c1e-0000-4000-8000-000000000002"]);
    run(&mut command)?;
    let mut start = [0; 22];
    File::open(file)?.read_exact_at(&mut start, 0)?;
    ensure!(&start == b"bluestore block device", "no OSD was made");
    Ok(())
}

/// Whether the bytes from here on are those of the other file.
fn same(file: &Path, offset: u64, expected: &Path) -> Result<bool> {
    let (file, expected) = (File::open(file)?, File::open(expected)?);
    let size = expected.metadata()?.len();
    let [mut one, mut other] = [vec![0; 1 << 20], vec![0; 1 << 20]];
    let mut at = 0;
    while at < size {
        let length = usize::try_from((size - at).min(1 << 20))?;
        file.read_exact_at(&mut one[..length], offset + at)?;
        expected.read_exact_at(&mut other[..length], at)?;
        if one[..length] != other[..length] {
            return Ok(false);
        }
        at += u64::try_from(length)?;
    }
    Ok(true)
}

/// A FAT file system on a partition of a disk.
struct Esp {
    file: PathBuf,
    offset: u64,
}

impl Esp {
    /// The paths in a folder; none if there is no such folder, or no file system.
    fn list(&self, folder: &str) -> Vec<String> {
        let said = self.mtools("mdir", &["-b", folder]).unwrap_or_default();
        String::from_utf8_lossy(&said).lines().map(str::to_owned).collect()
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.mtools("mtype", &[path])
    }

    fn mtools(&self, program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        let folder = self.file.parent().context("a disk without a folder")?;
        let image = format!("{}@@{}", self.file.display(), self.offset);
        let mut command = in_tools(program, &[folder])?;
        command.args(["-i", &image]).args(arguments);
        let output = crate::command::output(&mut command)?;
        ensure!(output.status.success(), "{program} {arguments:?}: {}", output.status);
        Ok(output.stdout)
    }
}
