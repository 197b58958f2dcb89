//! The trial of a release, as the ESP shows it: the boot loader counts tries in the name of a system (UKI), and a system that
//! has proven itself gets a name without.
//!
//! systemd-bless-boot does the same to an ESP that is mounted where it looks. A node's is mounted by nobody, but for the
//! moment in which something is to be done there, so that no power cut finds it open: it is done here.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use trilith_core::boot::{Boot, FILE, FOLDER, Loader, Name, RootHash};

use crate::block::Devices;
use crate::efi;
use crate::esp::systems::STAGED;
use crate::esp::{SYSTEMS, files, root_of};
use crate::mounted::{Mounted, Way};

/// A system on an ESP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// What it is called.
    pub name: Name,
    /// The hash of its root, if the file is whole enough to tell.
    pub root: Option<RootHash>,
    /// Whether it waits for its activation.
    pub staged: bool,
}

/// The system of this boot as the boot loader names it, if it is on trial: `EFI/Linux/trilith_2.0+2-1.efi`.
///
/// # Errors
/// The firmware's variables cannot be read.
pub fn counted() -> Result<Option<String>> {
    Ok(efi::counted()?.map(|path| path.replace('\\', "/").trim_start_matches('/').to_owned()))
}

/// Does something to the ESP of the disk that was booted.
///
/// # Errors
/// Nobody knows which it is, it cannot be mounted, as while another program reads it, or what is to be done fails.
pub fn with_esp<T>(work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    // To be written even if it is only read: the kernel mounts nothing in two ways at once, and somebody may just write.
    let esp = Mounted::esp(&device()?, Way::Write)?;
    let done = work(esp.path())?;
    esp.close()?;
    Ok(done)
}

/// The device of the ESP that the boot loader was started from.
fn device() -> Result<String> {
    let text = fs::read_to_string(Path::new(FOLDER).join(FILE)).context("no word of the initrd")?;
    let boot: Boot = serde_yaml::from_str(&text).context("the initrd has left another word")?;
    let Loader::Partition(uuid) = efi::loader() else {
        anyhow::bail!("the boot loader does not say which partition it was started from");
    };
    let partition = Devices::here().once_seen(|devices| {
        let number = devices.extent(&boot.disk, &uuid.to_lowercase())?.number;
        let partition = devices.named(&boot.disk)?.partition(number);
        partition.with_context(|| format!("partition {number} of {} is not there", boot.disk))
    })?;
    Ok(partition.display().to_string())
}

/// Marks a system as proven, by the path that [`counted`] gave: it gets its name without tries, durably. One that has it
/// already keeps it.
///
/// # Errors
/// There is no such system, or the file system does not take it.
pub fn bless(esp: &Path, counted: &str) -> Result<()> {
    let path = esp.join(counted);
    let folder = path.parent().context("a system without a folder")?;
    let name = name_of(&path).with_context(|| format!("{counted} is not a system's name"))?;
    let proven = folder.join(name.blessed().to_string());
    // A power cut may have left both names, of one and the same file: FAT would lose it if one of them was replaced or
    // removed. The boot loader uses up the other one's tries, and then takes this.
    if proven.exists() {
        return settle(&proven, folder);
    }
    let from = if path.exists() { path.clone() } else { renamed(folder, &name)? };
    let failed = || format!("cannot mark {} as proven", from.display());
    renameat_with(CWD, &from, CWD, &proven, RenameFlags::NOREPLACE)
        .map_err(io::Error::from)
        .with_context(failed)?;
    settle(&proven, folder)
}

fn name_of(path: &Path) -> Option<Name> {
    Name::of(path.file_name()?.to_str()?)
}

/// The same system under another number of tries.
fn renamed(folder: &Path, name: &Name) -> Result<PathBuf> {
    let is_it = |path: &PathBuf| {
        name_of(path).is_some_and(|other| other.stem == name.stem && other.tries.is_some())
    };
    let found = files(folder)?.into_iter().find(is_it);
    found.with_context(|| format!("there is no {name} in {}", folder.display()))
}

/// Makes a new name durable. First the file: where it begins is written with it, under its new name; then the folder, which
/// forgets the old one.
fn settle(file: &Path, folder: &Path) -> Result<()> {
    let sync = |path: &Path| File::open(path).and_then(|it| it.sync_all());
    let done = sync(file).and_then(|()| sync(folder));
    done.with_context(|| format!("cannot make {} durable", file.display()))
}

/// Every system of ours or of others that the boot loader may start, and those that wait for it.
///
/// # Errors
/// Reading fails.
pub fn all(esp: &Path) -> Result<Vec<System>> {
    let mut all = Vec::new();
    for (folder, staged) in [(SYSTEMS, false), (STAGED, true)] {
        for path in files(&esp.join(folder))? {
            let Some(name) = name_of(&path) else { continue };
            all.push(System { name, root: root_of(&path), staged });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn put(esp: &Path, name: &str, content: &str) {
        let path = esp.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn names(esp: &Path) -> Vec<String> {
        let all = fs::read_dir(esp.join("EFI/Linux")).unwrap();
        let mut names: Vec<_> =
            all.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_proven_system_loses_its_tries_once_and_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let esp = folder.path();
        put(esp, "EFI/Linux/trilith_1.0.efi", "old");
        put(esp, "EFI/Linux/trilith_2.0+2-1.efi", "new");
        for _ in 0..2 {
            bless(esp, "EFI/Linux/trilith_2.0+2-1.efi").unwrap();
            assert_eq!(names(esp), ["trilith_1.0.efi", "trilith_2.0.efi"]);
            assert_eq!(fs::read(esp.join("EFI/Linux/trilith_2.0.efi")).unwrap(), b"new");
        }
    }

    #[test]
    fn other_tries_of_it_are_the_same_system() {
        let folder = tempfile::tempdir().unwrap();
        let esp = folder.path();
        put(esp, "EFI/Linux/trilith_2.0+1-2.efi", "new");
        put(esp, "EFI/Linux/trilith_2.0.1+1-2.efi", "newer");
        bless(esp, "EFI/Linux/trilith_2.0+2-1.efi").unwrap();
        assert_eq!(names(esp), ["trilith_2.0.1+1-2.efi", "trilith_2.0.efi"]);
        let error = bless(esp, "EFI/Linux/trilith_3.0+2-1.efi").unwrap_err().to_string();
        assert!(error.starts_with("there is no trilith_3.0+2-1.efi in "), "{error}");
        assert!(bless(esp, "EFI/Linux/readme").is_err());
    }

    /// Both are one file on FAT: nothing may be replaced or removed.
    #[test]
    fn what_a_power_cut_left_twice_stays() {
        let folder = tempfile::tempdir().unwrap();
        let esp = folder.path();
        put(esp, "EFI/Linux/trilith_2.0+2-1.efi", "new");
        put(esp, "EFI/Linux/trilith_2.0.efi", "new");
        bless(esp, "EFI/Linux/trilith_2.0+2-1.efi").unwrap();
        assert_eq!(names(esp), ["trilith_2.0+2-1.efi", "trilith_2.0.efi"]);
    }

    #[test]
    fn systems_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let esp = folder.path();
        assert_eq!(all(esp).unwrap(), []);
        put(esp, "EFI/Linux/trilith_2.0+0-3.efi", "broken");
        put(esp, "EFI/Linux/trilith_2.0.part", "not whole");
        put(esp, "trilith/staged/trilith_3.0.efi", "broken");
        let found = all(esp).unwrap();
        let shown: Vec<_> =
            found.iter().map(|it| (it.name.to_string(), it.staged, it.root.is_some())).collect();
        let expected = [
            ("trilith_2.0+0-3.efi".to_owned(), false, false),
            ("trilith_3.0.efi".to_owned(), true, false),
        ];
        assert_eq!(shown, expected);
    }
}
