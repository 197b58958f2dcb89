//! How often the firmware was told to start a disk that it has not started since. Some firmware forgets what it was told, and
//! a medium that stays in such a machine would start it again and again.
//!
//! Whether the disk was started is seen on its /var, which every start mounts; the number stands on the ESP, beside what
//! /var looked like then.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::esp;

/// Where ext4's superblock has the time of the last mount, and how far on the number of mounts since the last check is:
/// `s_mtime`, `s_wtime`, `s_mnt_count` (kernel, fs/ext4/ext4.h).
const LAST_MOUNT: u64 = 1024 + 0x2c;

/// How often, for the /var on this device.
///
/// # Errors
/// Reading fails.
pub(super) fn times(esp: &Path, var: &str) -> Result<u32> {
    let told = esp::told(esp)?;
    let (times, mount) = told.as_deref().and_then(|it| it.split_once(' ')).unwrap_or_default();
    Ok(if mount == last_mount(var)? { times.parse().unwrap_or(0) } else { 0 })
}

/// Counts one more.
///
/// # Errors
/// Reading or writing fails.
pub(super) fn once_more(esp: &Path, var: &str) -> Result<()> {
    esp::tell(esp, &format!("{} {}", times(esp, var)? + 1, last_mount(var)?))
}

/// The last mount that wrote to a file system, in a form that no other has.
fn last_mount(var: &str) -> Result<String> {
    let mut field = [0; 10];
    File::open(var)
        .and_then(|device| device.read_exact_at(&mut field, LAST_MOUNT))
        .with_context(|| format!("cannot read the superblock of {var}"))?;
    let [a, b, c, d, _, _, _, _, low, high] = field;
    let (time, mounts) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([low, high]));
    Ok(format!("{time}:{mounts}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_until_the_disk_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let var = folder.path().join("var");
        let mounted = |count: u8| {
            let mut superblock = vec![0; 4096];
            superblock[1024 + 0x34] = count;
            std::fs::write(&var, superblock).unwrap();
        };
        let (esp, var) = (folder.path(), var.to_str().unwrap());
        mounted(1);
        assert_eq!(times(esp, var).unwrap(), 0);
        for expected in 1..4 {
            once_more(esp, var).unwrap();
            assert_eq!(times(esp, var).unwrap(), expected);
        }
        mounted(2);
        assert_eq!(times(esp, var).unwrap(), 0);
        once_more(esp, var).unwrap();
        assert_eq!(times(esp, var).unwrap(), 1);
    }
}
