//! The node's ESP: the boot loader, the system that it starts, and which medium brought them.
//!
//! FAT has no journal: a file gets its name only once it is whole on the disk, has been read back, and everything that it
//! needs is there. So a disk without the system's file is one that nothing was installed on, whatever else is on it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use object::read::pe::PeFile64;
use object::{Object as _, ObjectSection as _, ReadCache};
use trilith_core::boot::{Name, RootHash};

pub(crate) mod systems; // what boots, what is staged, and how one becomes the other

pub use systems::{Op, activate, carry_out, demote, stage, systems};

/// The boot loader, in its own place and in the one where firmware looks that remembers nothing.
const LOADERS: [&str; 2] = ["EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"];
/// What the boot loader reads besides: its settings, and the keys that it gives to firmware in setup mode.
const SETTINGS: [&str; 5] = [
    "loader/loader.conf",
    "loader/entries.srel",
    "loader/keys/auto/PK.auth",
    "loader/keys/auto/KEK.auth",
    "loader/keys/auto/db.auth",
];
/// The systems, each one file (UKI).
pub(crate) const SYSTEMS: &str = "EFI/Linux";
/// Which medium the node was installed from.
const MEDIUM: &str = "trilith/medium";
/// How often the firmware was told to start this disk, and since when.
const TOLD: &str = "trilith/told";
/// How a file is called that is not whole yet. The boot loader takes no such name.
const UNFINISHED: &str = "part";

/// How many bytes are compared at a time.
const PIECE: usize = 1 << 20;

/// Puts the release's boot loader and system onto an ESP, the system last and without a boot counter: there is no older one
/// to go back to. Both are folders where the ESPs are mounted. What is there already as it should be is not written again.
///
/// # Errors
/// Reading or writing fails, or what was read back is not what was written.
pub fn place(esp: &Path, release_esp: &Path) -> Result<()> {
    for name in LOADERS.iter().chain(&SETTINGS) {
        let from = release_esp.join(name);
        if from.exists() {
            copy(&from, &esp.join(name))?;
        }
    }
    let system = system(release_esp)?;
    let name = system.file_name().context("a system without a name")?;
    copy(&system, &esp.join(SYSTEMS).join(name))
}

/// Removes every system whose root has none of these hashes, staged ones too, and what was never finished.
///
/// # Errors
/// Reading or removing fails.
pub fn retire(esp: &Path, keep: &[RootHash]) -> Result<()> {
    for folder in [esp.join(SYSTEMS), esp.join(systems::STAGED)] {
        for system in files(&folder)? {
            let is_kept = || root_of(&system).is_some_and(|root| keep.contains(&root));
            if !is_system(&system) || !is_kept() {
                fs::remove_file(&system)
                    .with_context(|| format!("cannot remove {}", shown(&system)))?;
            }
        }
        if folder.is_dir() {
            settle(&folder)?;
        }
    }
    Ok(())
}

/// Whether a boot loader would take a file of this name.
fn is_system(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| Name::of(name).is_some())
}

/// The medium that the node was installed from, by its disk's UUID. `None` if that was never finished.
///
/// # Errors
/// Reading fails.
pub fn installed_from(esp: &Path) -> Result<Option<String>> {
    word(&esp.join(MEDIUM))
}

/// Writes down the medium that the node was installed from: a medium installs a node once.
///
/// # Errors
/// Writing fails.
pub fn remember(esp: &Path, medium: &str) -> Result<()> {
    put(&esp.join(MEDIUM), medium)
}

/// What [`tell`] has left.
///
/// # Errors
/// Reading fails.
pub fn told(esp: &Path) -> Result<Option<String>> {
    word(&esp.join(TOLD))
}

/// Writes down what the firmware was told.
///
/// # Errors
/// Writing fails.
pub fn tell(esp: &Path, what: &str) -> Result<()> {
    put(&esp.join(TOLD), what)
}

/// A file of one line. `None` if there is none, or nothing in it.
fn word(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", shown(path))),
    }
}

fn put(to: &Path, line: &str) -> Result<()> {
    give_name(&write_beside(format!("{line}\n").as_bytes(), to)?, to)
}

/// The one system of a release's ESP.
fn system(release_esp: &Path) -> Result<PathBuf> {
    let mut all = files(&release_esp.join(SYSTEMS))?;
    let system = all.pop().with_context(|| format!("no system in {}", shown(release_esp)))?;
    ensure!(all.is_empty(), "more than one system in {}", shown(release_esp));
    Ok(system)
}

/// The files of a folder; none if there is no folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("cannot read {}", shown(folder));
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(failed)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// The root hash in a system's own command line. `None` if it has none, or is no such file.
pub(crate) fn root_of(system: &Path) -> Option<RootHash> {
    let cache = ReadCache::new(File::open(system).ok()?);
    let file = PeFile64::parse(&cache).ok()?;
    let text = file.section_by_name(".cmdline")?.data().ok()?;
    RootHash::of_command_line(String::from_utf8_lossy(text).trim_end_matches('\0'))
}

/// Copies a file, unless the same is there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if is_same(from, to)? {
        return Ok(());
    }
    let source = File::open(from).with_context(|| format!("cannot open {}", shown(from)))?;
    let beside = write_beside(source, to)?;
    ensure!(is_same(from, &beside)?, "{} is not what was written there", shown(&beside));
    give_name(&beside, to)
}

/// Writes a file beside the place where it is to be, and makes its content durable.
fn write_beside(mut from: impl Read, to: &Path) -> Result<PathBuf> {
    let failed = || format!("cannot write {}", shown(to));
    let folder = to.parent().with_context(failed)?;
    make_folder(folder).with_context(failed)?;
    let beside = to.with_extension(UNFINISHED);
    let mut file = File::create(&beside).with_context(failed)?;
    std::io::copy(&mut from, &mut file).and_then(|_| file.flush()).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    // So that it is read from the disk when it is compared.
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).with_context(failed)?;
    Ok(beside)
}

/// Gives a file its name, and makes that durable. First the file: where it begins is written with it, under its new name
/// (`vfat_rename` of Linux makes an entry of an empty file); then the folder, which forgets the old one.
fn give_name(beside: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot give {} its name", shown(to));
    fs::rename(beside, to).with_context(failed)?;
    File::open(to).and_then(|file| file.sync_all()).with_context(failed)?;
    settle(to.parent().with_context(failed)?)
}

/// Makes a folder and those above it, and makes each durable where it stands.
fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().context("no folder above it")?;
    make_folder(above)?;
    fs::create_dir(folder)?;
    settle(above)
}

/// Makes names durable.
fn settle(folder: &Path) -> Result<()> {
    let settled = File::open(folder).and_then(|folder| folder.sync_all());
    settled.with_context(|| format!("cannot make {} durable", shown(folder)))
}

/// Whether two files have the same content. One that is not there has none.
fn is_same(one: &Path, other: &Path) -> Result<bool> {
    let other = match File::open(other) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        file => file.with_context(|| format!("cannot open {}", shown(other)))?,
    };
    let one = File::open(one).with_context(|| format!("cannot open {}", shown(one)))?;
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    loop {
        let [mut left, mut right] = [Vec::new(), Vec::new()];
        (&one).take(PIECE as u64).read_to_end(&mut left)?;
        (&other).take(PIECE as u64).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

#[cfg(test)]
pub(super) mod tests;
