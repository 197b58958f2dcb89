//! A release in a slot: copied there, and read back.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use anyhow::{Context as _, Result, ensure};
use trilith_core::boot::RootHash;

use crate::exec;

/// How much is copied at a time.
const CHUNK: usize = 4 << 20;
/// How often progress is told, in per cent.
const TELL: u64 = 10;

/// Copies devices, one after the other, from the first of each pair to the second; says how far it is.
///
/// # Errors
/// Reading or writing fails, or there is no room.
pub fn copy(pairs: &[(&String, &String)], mut tell: impl FnMut(u64) -> Result<()>) -> Result<()> {
    let sizes = pairs.iter().map(|(from, _)| size(from)).collect::<Result<Vec<_>>>()?;
    let total = sizes.iter().sum::<u64>().max(1);
    let (mut done, mut told) = (0, 0);
    for ((from, to), size) in pairs.iter().zip(sizes) {
        let room = self::size(to)?;
        ensure!(room >= size, "{from} has {size} bytes, and {to} has room for {room}");
        let mut source = File::open(from).with_context(|| format!("cannot read {from}"))?;
        let writing = || format!("cannot write {to}");
        let mut target = OpenOptions::new().write(true).open(to).with_context(writing)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = source.read(&mut chunk).with_context(|| format!("cannot read {from}"))?;
            if length == 0 {
                break;
            }
            target.write_all(&chunk[..length]).with_context(writing)?;
            done += length as u64;
            let percent = done * 100 / total / TELL * TELL;
            if percent > told {
                told = percent;
                tell(percent)?;
            }
        }
        target.sync_all().with_context(writing)?;
        forget(to)?;
    }
    Ok(())
}

/// Has a device be read from the disk from now on, not from memory.
///
/// # Errors
/// It is none.
pub fn forget(device: &str) -> Result<()> {
    exec::run("blockdev", &["--flushbufs", device])
}

/// How many bytes a device has.
///
/// # Errors
/// It is not there.
pub fn size(device: &str) -> Result<u64> {
    let end = File::open(device).and_then(|mut device| device.seek(SeekFrom::End(0)));
    end.with_context(|| format!("cannot read {device}"))
}

/// Reads every block of a root, and of its hash tree, against the root's hash.
///
/// # Errors
/// It is another root.
pub fn verify(root: &str, tree: &str, hash: &RootHash) -> Result<()> {
    exec::run("veritysetup", &["verify", root, tree, &hash.to_string()])
}
