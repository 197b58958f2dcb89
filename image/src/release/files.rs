//! Writes files, whole or not at all, and reads what they are.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// How many bytes are read at a time.
const PIECE: usize = 1 << 20;

/// Writes a file: a new one beside it takes its place once it is on the disk.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    drop(file);
    settle(&new, path)
}

/// Gives a finished file its name, once it is on the disk.
pub(crate) fn settle(new: &Path, path: &Path) -> io::Result<()> {
    File::open(new)?.sync_all()?;
    fs::rename(new, path)?;
    File::open(folder(path))?.sync_all()
}

/// Makes a folder with those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The SHA-256 digest of a file, and its size.
pub(crate) fn digest(path: &Path) -> Result<(Vec<u8>, u64)> {
    let reading = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let (mut digest, mut size) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece).with_context(reading)?;
        if count == 0 {
            return Ok((digest.finalize().to_vec(), size));
        }
        digest.update(&piece[..count]);
        size += count as u64;
    }
}
