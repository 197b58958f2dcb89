//! What there is: the disk that was booted, its slots, and what is on its ESP. Nothing is changed by looking.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use trilith_core::boot::{self, Boot, RootHash};
use trilith_core::gate::{self, FailedList, Said, Stand};
use trilith_core::install::Layout;
use trilith_core::update::{Disk, Esp, Observed};
use trilith_metal::block::{Device, Devices};
use trilith_metal::mounted::{self, Mounted, Way};
use trilith_metal::{esp, slot, table};

use crate::memory::{FOLDER, Memory};

/// What a file's blocks are counted in, whatever its file system has (stat(3type), `st_blocks`).
const BLOCK: u64 = 512;

/// This machine.
pub(crate) struct Machine {
    devices: Devices,
    /// Where the ESP is mounted, if somebody else has done that.
    esp: Option<PathBuf>,
}

impl Machine {
    pub(crate) fn new(esp: Option<PathBuf>) -> Self {
        Self { devices: Devices::here(), esp }
    }

    /// Everything but what the source has, and what was done for this wish.
    pub(crate) fn observe(&self) -> Result<Observed> {
        let disk = match self.disk()? {
            Some(disk) => self.installed(&disk)?,
            None => None,
        };
        let begun = Memory::read(Path::new(FOLDER))?.map(|memory| memory.root_hash);
        let (running, failed, proven) = (running()?, failed()?, proven());
        let room = Some(room(Path::new(FOLDER))?);
        Ok(Observed { disk, running, room, begun, failed, proven, ..Observed::default() })
    }

    /// The disk that was booted; `None`: a medium, or the network.
    pub(crate) fn disk(&self) -> Result<Option<Device>> {
        let told = Path::new(boot::FOLDER).join(boot::FILE);
        let told = fs::read_to_string(&told).context("the initrd has left no word")?;
        let boot: Boot = serde_yaml::from_str(&told).context("the initrd has left another word")?;
        if boot.leaves_no_trace() { Ok(None) } else { self.devices.named(&boot.disk).map(Some) }
    }

    fn installed(&self, disk: &Device) -> Result<Option<Disk>> {
        let Some(layout) = table::layout(disk)? else { return Ok(None) };
        let size = |number: u32| slot::size(&device(disk, number)?.display().to_string());
        let room = |at: usize| {
            let (root, tree) = &layout.slots[at];
            Ok::<_, anyhow::Error>((size(root.number)?, size(tree.number)?))
        };
        let room = [room(0)?, room(1)?];
        let esp = self.on_esp(disk, &layout, Way::Read, |esp| {
            Ok(Esp { free: mounted::free(esp)?, systems: esp::systems(esp)? })
        })?;
        Ok(Some(Disk { layout, room, esp }))
    }

    /// Does something on the ESP.
    pub(crate) fn on_esp<T>(
        &self,
        disk: &Device,
        layout: &Layout,
        way: Way,
        work: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        if let Some(folder) = &self.esp {
            return work(folder);
        }
        let device = device(disk, layout.esp.number)?;
        let esp = Mounted::esp(device.to_str().context("a device without a name")?, way)?;
        let done = work(esp.path())?;
        esp.close()?;
        Ok(done)
    }
}

/// The device of a partition.
pub(crate) fn device(disk: &Device, number: u32) -> Result<PathBuf> {
    let device = disk.partition(number);
    device.with_context(|| format!("partition {number} of {} is not there", disk.name))
}

/// How many bytes may come into a folder: those that are free, and what is overwritten.
fn room(folder: &Path) -> Result<u64> {
    Ok(mounted::free(folder)? + taken(folder)?)
}

/// How many bytes the files of a folder take. Holes take none.
fn taken(folder: &Path) -> Result<u64> {
    let mut taken = 0;
    let entries = fs::read_dir(folder);
    for entry in entries.with_context(|| format!("cannot list {}", folder.display()))? {
        taken += entry.and_then(|entry| entry.metadata())?.blocks() * BLOCK;
    }
    Ok(taken)
}

fn running() -> Result<Option<RootHash>> {
    let arguments = fs::read_to_string("/proc/cmdline").context("no kernel command line")?;
    Ok(RootHash::of_command_line(&arguments))
}

/// Whether the gate has said of this boot that it is not on trial, or not any more.
fn proven() -> bool {
    let text = fs::read_to_string(Path::new(gate::RUN).join(gate::STATE)).unwrap_or_default();
    Said::parse(&text).is_ok_and(|said| !matches!(said.stand, Stand::Trial { .. }))
}

/// What the gate remembers.
fn failed() -> Result<FailedList> {
    let path = Path::new(gate::FOLDER).join(gate::FAILED);
    match fs::read_to_string(&path) {
        Ok(text) => FailedList::parse(&text)
            .with_context(|| format!("{} says what nobody understands", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(FailedList::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn what_was_fetched_is_room_but_for_its_holes() {
        const MIB: usize = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let file = fs::File::create(folder.path().join("uki")).unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(taken(folder.path()).unwrap() < MIB as u64);
        file.write_all_at(&vec![1; MIB], 1 << 30).unwrap();
        file.sync_all().unwrap();
        let taken = taken(folder.path()).unwrap();
        assert!((MIB..2 * MIB).contains(&usize::try_from(taken).unwrap()), "{taken}");
        assert!(room(folder.path()).unwrap() >= taken);
    }
}
