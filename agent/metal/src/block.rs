//! Disks and partitions, as the kernel and udev describe them, and news of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use trilith_core::boot::Partition;
use trilith_core::disks::{Block, Facts};

use crate::exec;

/// How long udev may take to see a device.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Where things are.
#[derive(Debug, Clone)]
pub struct Devices {
    /// Every block device of the kernel, as links.
    block: PathBuf,
    /// What udev knows of each.
    udev: PathBuf,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The kernel's name.
    pub name: String,
    /// The folder that describes it.
    folder: PathBuf,
    /// udev's properties.
    properties: BTreeMap<String, String>,
    /// udev's links to it, below /dev.
    links: Vec<String>,
}

impl Device {
    /// One of udev's properties.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    /// A file of the kernel's about it, without blanks around it.
    pub fn file(&self, name: &str) -> Option<String> {
        word(&self.folder.join(name)).filter(|text| !text.is_empty())
    }

    /// Whether it is a whole disk of the machine's own: no partition, and nothing that the kernel makes up.
    pub fn is_disk(&self) -> bool {
        // Loops, memory, mapped and striped devices; not NVMe by several paths, which is below /virtual as well.
        let made_up = self.folder.components().any(|it| it.as_os_str() == "virtual")
            && self.folder.parent().is_some_and(|folder| folder.ends_with("block"));
        self.disk().is_none() && !made_up
    }

    /// What it is.
    pub fn about(&self) -> Block {
        let names = |folder: &str| {
            let links = self.links.iter().filter_map(|link| link.strip_prefix(folder));
            links.map(str::to_owned).collect()
        };
        let (file, property) =
            (|name: &str| self.file(name), |name: &str| self.property(name).map(str::to_owned));
        let folder = self.folder.to_string_lossy();
        let facts = Facts { name: &self.name, folder: &folder, file: &file, property: &property };
        Block { ids: names("disk/by-id/"), paths: names("disk/by-path/"), ..Block::about(&facts) }
    }

    /// The device of its partition of this number, once there is one.
    pub fn partition(&self, number: u32) -> Option<PathBuf> {
        let mut all = self.partitions().into_iter();
        all.find(|(found, _)| *found == number).map(|(_, device)| device)
    }

    /// Its partitions as the kernel has them: number and device.
    pub fn partitions(&self) -> Vec<(u32, PathBuf)> {
        let inside = fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        let part = |entry: fs::DirEntry| {
            let number = word(&entry.path().join("partition"))?.parse().ok()?;
            Some((number, Path::new("/dev").join(entry.file_name())))
        };
        let mut parts: Vec<_> = inside.filter_map(part).collect();
        parts.sort();
        parts
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// The folder of the disk that this is a partition of.
    fn disk(&self) -> Option<&Path> {
        self.folder.join("partition").exists().then(|| self.folder.parent()).flatten()
    }
}

impl Devices {
    /// This machine's.
    pub fn here() -> Self {
        Self { block: "/sys/class/block".into(), udev: "/run/udev/data".into() }
    }

    /// A test's: `block` and `udev` in this folder.
    #[cfg(test)]
    pub(crate) fn at(top: &Path) -> Self {
        Self { block: top.join("block"), udev: top.join("udev") }
    }

    /// Every block device that udev has finished with.
    pub fn all(&self) -> Result<Vec<Device>> {
        let failed = || format!("cannot read {}", self.block.display());
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.block).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            // One that has just gone is not there.
            let Ok(folder) = fs::canonicalize(entry.path()) else { continue };
            let Some(number) = word(&folder.join("dev")) else { continue };
            let Some(known) = word(&self.udev.join(format!("b{number}"))) else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            let links = known.lines().filter_map(|line| line.strip_prefix("S:"));
            let links = links.map(str::to_owned).collect();
            all.push(Device { name, folder, properties: properties(&known), links });
        }
        Ok(all)
    }

    /// The one of this name.
    pub fn named(&self, name: &str) -> Result<Device> {
        let mut all = self.all()?.into_iter();
        all.find(|device| device.name == name).with_context(|| format!("there is no disk {name}"))
    }

    /// What `look` finds, as soon as udev has seen what it needs: with the switch from the initrd to the root udev forgets
    /// all devices, and on a slow machine it takes its time to see them again.
    ///
    /// # Errors
    /// As `look`, for all of [`PATIENCE`].
    pub fn once_seen<T>(&self, look: impl Fn(&Self) -> Result<T>) -> Result<T> {
        let (news, end) = (News::listen(self)?, Instant::now() + PATIENCE);
        loop {
            match look(self) {
                Err(_) if news.wait_until(end)? => {}
                found => return found,
            }
        }
    }

    /// Every partition of a GPT.
    pub fn partitions(&self) -> Result<Vec<Partition>> {
        Ok(self.all()?.iter().filter_map(partition).collect())
    }

    /// Where on the disk the partition of this UUID (in lower case) lies.
    pub fn extent(&self, disk: &str, uuid: &str) -> Result<Extent> {
        let mut all = self.all()?.into_iter();
        let is_it = |device: &Device| {
            partition(device).is_some_and(|it| it.disk == disk && it.uuid == uuid)
        };
        let found = all.find(is_it).with_context(|| format!("no partition {uuid} on {disk}"))?;
        extent(&found).with_context(|| format!("the kernel does not say where {uuid} lies"))
    }
}

/// Where a partition lies on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its number, from 1.
    pub number: u32,
    /// Its first block, in logical blocks of the disk.
    pub start: u64,
    /// Its length in logical blocks.
    pub size: u64,
}

fn partition(device: &Device) -> Option<Partition> {
    let disk = device.disk()?;
    let backing = word(&disk.join("loop/backing_file")).unwrap_or_default();
    let property = |name| device.property(name).map(str::to_lowercase);
    Some(Partition {
        name: device.name.clone(),
        disk: disk.file_name()?.to_str()?.to_owned(),
        uuid: property("ID_PART_ENTRY_UUID")?,
        kind: property("ID_PART_ENTRY_TYPE")?,
        optical: backing.starts_with("/dev/sr"),
    })
}

/// The kernel counts in units of 512 bytes, whatever the disk does.
fn extent(device: &Device) -> Option<Extent> {
    let number = |path: &Path| word(path)?.parse::<u64>().ok();
    let block = number(&device.disk()?.join("queue/logical_block_size"))?;
    let blocks = |name: &str| (number(&device.folder.join(name))? * 512).checked_div(block);
    Some(Extent {
        number: number(&device.folder.join("partition"))?.try_into().ok()?,
        start: blocks("start")?,
        size: blocks("size")?,
    })
}

fn properties(known: &str) -> BTreeMap<String, String> {
    let lines = known.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn word(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Waits until udev has seen everything: a table that was written takes all partitions away for a moment.
///
/// # Errors
/// It takes longer than a minute.
pub fn settle() -> Result<()> {
    exec::run("udevadm", &["settle", "--timeout=60"])
}

/// News of block devices: what udev writes about them.
pub struct News(Inotify);

impl News {
    /// From now on.
    pub fn listen(devices: &Devices) -> Result<Self> {
        // udev makes it with the first device that it has finished with.
        let made = fs::create_dir_all(&devices.udev);
        made.with_context(|| format!("cannot make {}", devices.udev.display()))?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).context("cannot listen for devices")?;
        let any = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE;
        let watched = inotify.add_watch(&devices.udev, any | AddWatchFlags::IN_DELETE);
        watched.with_context(|| format!("cannot watch {}", devices.udev.display()))?;
        Ok(Self(inotify))
    }

    /// Listens for files of this folder as well; it is made if there is none.
    pub fn and(self, folder: &Path) -> Result<Self> {
        let failed = || format!("cannot watch {}", folder.display());
        fs::create_dir_all(folder).with_context(failed)?;
        let any = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE;
        self.0.add_watch(folder, any | AddWatchFlags::IN_DELETE).with_context(failed)?;
        Ok(self)
    }

    /// Waits for the next, but no longer than until then: `false` if there was none.
    pub fn wait_until(&self, end: Instant) -> Result<bool> {
        let rest = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(rest).context("a wait that is too long")?;
        let mut here = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if poll(&mut here, timeout).context("cannot wait for devices")? == 0 {
            return Ok(false);
        }
        self.wait().map(|()| true)
    }

    /// Waits for the next, however long that takes: the unit's time-out ends it.
    pub fn wait(&self) -> Result<()> {
        self.0.read_events().context("cannot wait for devices")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn partitions_are_read_as_the_kernel_and_udev_have_them() {
        let top = tempfile::tempdir().unwrap();
        let at = |path: &str| top.path().join(path);
        let put = |path: &str, text: &str| {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        };
        put("devices/sr/loop0/dev", "7:0\n");
        put("devices/sr/loop0/loop/backing_file", "/dev/sr0\n");
        put("devices/sr/loop0/loop0p2/dev", "259:1\n");
        put("devices/sr/loop0/loop0p2/partition", "2\n");
        put("devices/sr/loop0/loop0p2/start", "2048\n");
        put("devices/sr/loop0/loop0p2/size", "4096\n");
        put("devices/sr/loop0/queue/logical_block_size", "4096\n");
        put("devices/sr/loop0/loop0p3/dev", "259:2\n");
        put("devices/sr/loop0/loop0p3/partition", "3\n");
        put("udev/b7:0", "E:ID_PART_TABLE_TYPE=gpt\n");
        put("udev/b259:1", "S:disk/x\nE:ID_PART_ENTRY_UUID=AB-1\nE:ID_PART_ENTRY_TYPE=cd\n");
        fs::create_dir(at("block")).unwrap();
        for (name, target) in
            [("loop0", "loop0"), ("loop0p2", "loop0/loop0p2"), ("loop0p3", "loop0/loop0p3")]
        {
            symlink(at("devices/sr").join(target), at("block").join(name)).unwrap();
        }
        let devices = Devices { block: at("block"), udev: at("udev") };
        let expected = Partition {
            name: "loop0p2".into(),
            disk: "loop0".into(),
            uuid: "ab-1".into(),
            kind: "cd".into(),
            optical: true,
        };
        // udev has not finished with the third.
        assert_eq!(devices.partitions().unwrap(), [expected]);
        assert_eq!(devices.all().unwrap().len(), 2);
        let extent = Extent { number: 2, start: 256, size: 512 };
        assert_eq!(devices.extent("loop0", "ab-1").unwrap(), extent);
        assert!(devices.extent("sda", "ab-1").is_err());

        let late = at("udev/b259:2");
        let udev = std::thread::spawn(move || {
            fs::write(late, "E:ID_PART_ENTRY_UUID=ab-2\nE:ID_PART_ENTRY_TYPE=cd\n")
        });
        let seen = devices.once_seen(|devices| {
            let found = devices.partitions()?.into_iter().find(|it| it.uuid == "ab-2");
            found.context("not yet")
        });
        assert_eq!(seen.unwrap().name, "loop0p3");
        udev.join().unwrap().unwrap();
    }
}
