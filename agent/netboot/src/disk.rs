//! The disk in memory: a file in a tmpfs of its own, a loop device on it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use nix::mount::{MsFlags, mount};
use trilith_core::netboot::verity::Superblock;
use uuid::Uuid;

use crate::say;

/// The file that becomes the disk.
pub(crate) struct Image {
    path: PathBuf,
    file: File,
}

impl Image {
    /// An empty one: this file, or one in a new tmpfs in `folder`.
    pub(crate) fn new(only: Option<&Path>, folder: &Path) -> Result<Self> {
        let path = match only {
            Some(path) => path.to_owned(),
            None => memory(&folder.join("disk"))?.join("trilith.raw"),
        };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, file })
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether the root on it is the one with this root hash.
    ///
    /// The kernel would see it as well, block by block, and panic. So it is known at once, and whose fault it is.
    pub(crate) fn check(&self, root_hash: &str) -> Result<()> {
        let (data, tree) = partition_uuids(root_hash).context("the root hash is no such thing")?;
        let config = GptConfig::new().writable(false).logical_block_size(LogicalBlockSize::Lb512);
        let disk = config.open(&self.path).context("it is no disk")?;
        let start = |uuid: Uuid| {
            let found = disk.partitions().values().find(|part| part.part_guid == uuid);
            found
                .with_context(|| format!("it has no partition {uuid}"))
                .map(|part| part.first_lba * 512)
        };
        let (data, tree) = (start(data)?, start(tree)?);
        let mut superblock = [0; Superblock::SIZE];
        self.file.read_exact_at(&mut superblock, tree).context("it cannot be read")?;
        let superblock = Superblock::parse(&superblock)?;
        say("comparing every block of the root with the root hash");
        superblock.check(&mut At { file: &self.file, position: data }, root_hash)?;
        Ok(())
    }

    /// Makes it a disk, and gives the device.
    pub(crate) fn attach(&self) -> Result<String> {
        // The only program that is started here.
        #[expect(clippy::disallowed_methods, reason = "this is the place")]
        let output = Command::new("losetup")
            .args(["--find", "--show", "--partscan", "--sector-size", "512"])
            .arg(&self.path)
            .output()
            .context("cannot start losetup")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "losetup says no: {}", said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Reads a file from a position on, in large parts.
struct At<'a> {
    file: &'a File,
    position: u64,
}

impl std::io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// A tmpfs that may take most of the memory: what the disk takes is known only when it is there.
fn memory(folder: &Path) -> Result<PathBuf> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make {}", folder.display()))?;
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("trilith-disk"), folder, Some("tmpfs"), flags, Some("size=90%,mode=0700"))
        .context("no memory for the disk")?;
    Ok(folder.to_owned())
}

/// The partitions of root and hash tree have the two halves of the root hash as their UUIDs (systemd-veritysetup-generator
/// finds them so).
fn partition_uuids(root_hash: &str) -> Option<(Uuid, Uuid)> {
    let (data, tree) = root_hash.split_at_checked(32)?;
    Some((Uuid::try_parse(data).ok()?, Uuid::try_parse(tree).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_follow_from_the_root_hash() {
        let hash = "0123456789abcdef0123456789abcdefffffffffffffffffffffffffffffffff";
        let (data, tree) = partition_uuids(hash).unwrap();
        assert_eq!(data.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(tree.to_string(), "ffffffff-ffff-ffff-ffff-ffffffffffff");
        assert_eq!(partition_uuids("0123"), None);
    }
}
