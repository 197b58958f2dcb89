//! `ci/vm` runs these on a FAT file system as well: `TMPDIR` says where.

use tempfile::TempDir;

use super::*;

const HASH: &str = "0dddcf91739ba2da9264c0f448b44d4445664171a7215fb1a13a63e3ec8ac7e6";

/// The least that is a system: a PE file of 64 bits with one section, `.cmdline`.
pub(super) fn uki(command_line: &str) -> Vec<u8> {
    let mut file = vec![0; 0x40];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    file.extend(b"PE\0\0");
    // COFF header: x86-64, one section, 240 bytes of optional header with 16 empty data directories.
    file.extend([0x64, 0x86, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 240, 0, 0x22, 0]);
    let mut optional = vec![0; 240];
    optional[..2].copy_from_slice(&[0x0b, 0x02]);
    optional[108] = 16;
    file.extend(optional);
    let length = u32::try_from(command_line.len()).unwrap().to_le_bytes();
    let data = u32::try_from(file.len() + 40).unwrap().to_le_bytes();
    file.extend(b".cmdline");
    file.extend([&length[..], &[0, 0x10, 0, 0], &length, &data, &[0; 16]].concat());
    file.extend(command_line.as_bytes());
    file
}

pub(super) fn put(folder: &TempDir, name: &str, content: &[u8]) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn release(hash: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for loader in LOADERS {
        put(&folder, loader, b"the loader");
    }
    for settings in SETTINGS {
        put(&folder, settings, b"what the boot loader reads\n");
    }
    let name = format!("EFI/Linux/trilith-6.12+deb13-{hash}.efi");
    put(&folder, &name, &uki(&format!("roothash={hash} quiet")));
    folder
}

/// Every file with its size, those of a folder in order.
fn tree(folder: &TempDir) -> Vec<(String, u64)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.path().to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
            found.push((name, path.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

/// Whether the release's system is there, whole and under its final name.
fn holds(esp: &Path, release_esp: &Path) -> Result<bool> {
    let system = system(release_esp)?;
    let name = system.file_name().context("a system without a name")?;
    is_same(&system, &esp.join(SYSTEMS).join(name))
}

#[test]
fn a_release_is_placed_whole_and_once() {
    let (release, esp) = (release(HASH), tempfile::tempdir().unwrap());
    assert!(!holds(esp.path(), release.path()).unwrap());
    place(esp.path(), release.path()).unwrap();
    assert!(holds(esp.path(), release.path()).unwrap());
    assert_eq!(tree(&esp), tree(&release));

    let system = system(esp.path()).unwrap();
    let before = system.metadata().unwrap().modified().unwrap();
    place(esp.path(), release.path()).unwrap();
    assert_eq!(system.metadata().unwrap().modified().unwrap(), before, "it was written again");
}

/// As a power cut leaves it: the file is there under another name, or shorter than it should be.
#[test]
fn what_was_cut_is_placed_again() {
    let (release, esp) = (release(HASH), tempfile::tempdir().unwrap());
    let name = system(release.path()).unwrap().file_name().unwrap().to_owned();
    let system = esp.path().join(SYSTEMS).join(name);
    make_folder(system.parent().unwrap()).unwrap();
    fs::write(system.with_extension(UNFINISHED), b"MZ").unwrap();
    assert!(!holds(esp.path(), release.path()).unwrap());
    place(esp.path(), release.path()).unwrap();
    assert!(holds(esp.path(), release.path()).unwrap());
    assert_eq!(tree(&esp), tree(&release), "nothing unfinished is left");

    File::options().write(true).open(&system).unwrap().set_len(7).unwrap();
    assert!(!holds(esp.path(), release.path()).unwrap());
    place(esp.path(), release.path()).unwrap();
    assert!(holds(esp.path(), release.path()).unwrap());
}

#[test]
fn systems_of_other_roots_are_retired() {
    let (new, old) = (release(HASH), release(&HASH.replace('0', "f")));
    let esp = tempfile::tempdir().unwrap();
    place(esp.path(), old.path()).unwrap();
    place(esp.path(), new.path()).unwrap();
    put(&esp, "EFI/Linux/broken.efi", b"MZ");
    let keep = RootHash::of_command_line(&format!("roothash={HASH}")).unwrap();
    retire(esp.path(), &[keep]).unwrap();
    assert_eq!(tree(&esp), tree(&new));
    retire(tempfile::tempdir().unwrap().path(), &[]).unwrap();
}

#[test]
fn a_medium_is_remembered_once_it_is_done() {
    let esp = tempfile::tempdir().unwrap();
    assert_eq!(installed_from(esp.path()).unwrap(), None);
    for medium in ["098f989c-b142-428d-863e-71f81601c743", "198f989c-b142-428d-863e-71f81601c743"] {
        remember(esp.path(), medium).unwrap();
        assert_eq!(installed_from(esp.path()).unwrap().as_deref(), Some(medium));
    }
    put(&esp, MEDIUM, b"");
    assert_eq!(installed_from(esp.path()).unwrap(), None);
}

#[test]
fn a_release_without_a_system_is_none() {
    let esp = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    assert!(place(esp.path(), empty.path()).is_err());
    let two = release(HASH);
    put(&two, "EFI/Linux/other.efi", &uki("roothash=1"));
    assert!(place(esp.path(), two.path()).is_err());
}
