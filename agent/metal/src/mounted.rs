//! A file system, mounted for a moment.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

/// What it is mounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To be read. Nothing on the disk changes, not even what a power cut has left to be tidied up.
    Read,
    /// To be written.
    Write,
}

/// How many bytes are free in the file system that a folder is in.
///
/// # Errors
/// Asking fails.
pub fn free(folder: &Path) -> Result<u64> {
    let about = statvfs(folder);
    let about = about.with_context(|| format!("cannot ask how full {} is", folder.display()))?;
    Ok(about.blocks_available() * about.fragment_size())
}

/// A mounted file system; unmounted when it is dropped.
#[derive(Debug)]
pub struct Mounted {
    folder: TempDir,
    is_mounted: bool,
}

impl Mounted {
    /// An EFI system partition.
    pub fn esp(device: &str, way: Way) -> Result<Self> {
        Self::new(device, "vfat", way, "umask=0077")
    }

    /// A /var.
    pub fn var(device: &str, way: Way) -> Result<Self> {
        let options = if way == Way::Read { "noload" } else { "" };
        Self::new(device, "ext4", way, options)
    }

    fn new(device: &str, kind: &str, way: Way, options: &str) -> Result<Self> {
        // An initrd may lack it.
        let folder = fs::create_dir_all(std::env::temp_dir()).and_then(|()| tempfile::tempdir());
        let folder = folder.context("no folder to mount on")?;
        let mut flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        flags.set(MsFlags::MS_RDONLY, way == Way::Read);
        mount(Some(device), folder.path(), Some(kind), flags, Some(options))
            .with_context(|| format!("cannot mount {device} as {kind}"))?;
        Ok(Self { folder, is_mounted: true })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Unmounts it: everything is on the disk then.
    pub fn close(mut self) -> Result<()> {
        self.is_mounted = false;
        umount2(self.folder.path(), MntFlags::empty()).context("cannot unmount")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            // An error is being told already.
            let _ = umount2(self.folder.path(), MntFlags::MNT_DETACH);
        }
    }
}
