//! What a medium is written to: a file, or a disk whose content is destroyed only by its serial number.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde::Deserialize;

use super::medium::{Content, Medium, Piece};
use crate::exec;

/// How much is written at a time.
const CHUNK: u64 = 4 << 20;

/// Something to write to, of this size in bytes.
pub(super) struct Target {
    path: PathBuf,
    file: File,
    size: u64,
}

/// A disk or partition as lsblk(8) describes it.
#[derive(Debug, Deserialize)]
struct Block {
    name: String,
    size: u64,
    #[serde(rename = "type")]
    kind: String,
    ro: bool,
    model: Option<String>,
    serial: Option<String>,
    tran: Option<String>,
    fstype: Option<String>,
    label: Option<String>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Block>,
}

#[derive(Debug, Deserialize)]
struct Blocks {
    blockdevices: Vec<Block>,
}

impl Target {
    /// Opens it for a medium of `least` bytes. `None`: the person does not want it.
    pub(super) fn open(path: &Path, yes_wipe: Option<&str>, least: u64) -> Result<Option<Self>> {
        let opening = || format!("cannot write {}", path.display());
        if !path.metadata().is_ok_and(|about| about.file_type().is_block_device()) {
            // It holds secrets.
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(path).with_context(opening)?;
            file.set_len(least).with_context(opening)?;
            return Ok(Some(Self { path: path.to_owned(), file, size: least }));
        }
        let block = describe(path)?;
        block.may_be_destroyed(path)?;
        ensure!(
            block.size >= least,
            "{} has {} bytes, {least} are needed",
            path.display(),
            block.size
        );
        if !block.is_meant(path, yes_wipe)? {
            return Ok(None);
        }
        // Exclusively: neither mounted nor in use by anything in the kernel, from now on.
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(nix::libc::O_EXCL);
        let file = options.open(path).with_context(opening)?;
        // The second partition table is on a boundary that a disk's end need not be.
        let size = block.size - block.size % 4096;
        Ok(Some(Self { path: path.to_owned(), file, size }))
    }

    /// Writes the medium, reads it back, and compares.
    pub(super) fn write(mut self, medium: &Medium) -> Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        let pieces = medium.pieces(self.size)?;
        let mut image = File::open(medium.image())?;
        let mut progress = Progress::new("writing", &pieces);
        each_chunk(&pieces, &mut image, |at, chunk| {
            self.file.seek(SeekFrom::Start(at))?;
            self.file.write_all(chunk)?;
            progress.add(chunk.len());
            Ok(())
        })
        .with_context(failed)?;
        self.file.sync_all().with_context(failed)?;
        // What is read from now on comes from the medium and not from memory.
        posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        let mut progress = Progress::new("verifying", &pieces);
        let mut found = Vec::new();
        each_chunk(&pieces, &mut image, |at, chunk| {
            found.resize(chunk.len(), 0);
            self.file.seek(SeekFrom::Start(at))?;
            self.file.read_exact(&mut found)?;
            if found != chunk {
                return Err(io::Error::other(format!("at {at} it gives back something else")));
            }
            progress.add(chunk.len());
            Ok(())
        })
        .with_context(|| format!("{} cannot be relied on", self.path.display()))
    }
}

/// Hands out all pieces, a chunk at a time.
fn each_chunk(
    pieces: &[Piece],
    image: &mut File,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    for Piece { at, content } in pieces {
        let length = match content {
            Content::Bytes(bytes) => {
                take(*at, bytes)?;
                continue;
            }
            Content::Image(length) => *length,
        };
        image.seek(SeekFrom::Start(*at))?;
        let mut done = 0;
        while done < length {
            let size = CHUNK.min(length - done);
            buffer.clear();
            // Behind its last partition the image may end early.
            image.take(size).read_to_end(&mut buffer)?;
            buffer.resize(usize::try_from(size).map_err(io::Error::other)?, 0);
            take(at + done, &buffer)?;
            done += size;
        }
    }
    Ok(())
}

/// Tells how far it is, at every tenth.
struct Progress {
    what: &'static str,
    all: u64,
    done: u64,
    told: u64,
}

impl Progress {
    fn new(what: &'static str, pieces: &[Piece]) -> Self {
        let size = |piece: &Piece| match &piece.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Image(length) => *length,
        };
        Self { what, all: pieces.iter().map(size).sum(), done: 0, told: 0 }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let tenths = self.done * 10 / self.all.max(1);
        if tenths > self.told {
            self.told = tenths;
            let mib = self.done >> 20;
            eprintln!(
                "trilith: {}: {:>3} %, {mib} of {} MiB",
                self.what,
                tenths * 10,
                self.all >> 20
            );
        }
    }
}

fn describe(path: &Path) -> Result<Block> {
    let mut lsblk = Command::new("lsblk");
    lsblk.args(["--json", "--bytes", "--output"]);
    lsblk.arg("NAME,SIZE,TYPE,RO,MODEL,SERIAL,TRAN,FSTYPE,LABEL,MOUNTPOINTS").arg(path);
    let blocks: Blocks = serde_json::from_str(&exec::output(&mut lsblk)?)
        .with_context(|| format!("lsblk describes {} in words of its own", path.display()))?;
    let block = blocks.blockdevices.into_iter().next();
    block.with_context(|| format!("lsblk does not know {}", path.display()))
}

impl Block {
    fn may_be_destroyed(&self, path: &Path) -> Result<()> {
        let path = path.display();
        if self.kind == "part" {
            bail!("{path} is a partition: give the whole disk");
        }
        ensure!(!self.ro, "{path} is read-only");
        let used =
            self.all().into_iter().find(|block| block.mountpoints.iter().any(Option::is_some));
        if let Some(used) = used {
            bail!("{path} is in use: {} is mounted", used.name);
        }
        Ok(())
    }

    /// This disk and all that is on it.
    fn all(&self) -> Vec<&Self> {
        std::iter::once(self).chain(self.children.iter().flat_map(Self::all)).collect()
    }

    /// By what a person names it: its serial number, or the kernel's name if it has none.
    fn mark(&self) -> &str {
        self.serial.as_deref().map(str::trim).filter(|it| !it.is_empty()).unwrap_or(&self.name)
    }

    /// Whether the person means this very disk.
    fn is_meant(&self, path: &Path, yes_wipe: Option<&str>) -> Result<bool> {
        let mark = self.mark();
        if let Some(named) = yes_wipe {
            ensure!(named == mark, "{} is the disk {mark}, not {named}", path.display());
            return Ok(true);
        }
        eprint!("{}", self.text());
        let stdin = io::stdin();
        ensure!(stdin.is_terminal(), "nobody can be asked: give --yes-wipe {mark}");
        eprint!("All of it is destroyed. Type {mark} to go on: ");
        let mut line = String::new();
        stdin.lock().read_line(&mut line)?;
        Ok(line.trim() == mark)
    }

    /// What is on it.
    fn text(&self) -> String {
        let word = |word: &Option<String>| word.as_deref().unwrap_or("-").trim().to_owned();
        let mut text = format!(
            "{}: {} {}, {} MiB, serial {}\n",
            self.name,
            word(&self.tran),
            word(&self.model),
            self.size >> 20,
            word(&self.serial)
        );
        for block in self.all() {
            let line = format!(
                "  {:<12} {:>8} MiB  {} {}\n",
                block.name,
                block.size >> 20,
                word(&block.fstype),
                word(&block.label)
            );
            text.push_str(&line);
        }
        text
    }
}
