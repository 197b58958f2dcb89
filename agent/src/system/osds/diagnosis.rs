//! All disks for a person: what is on them, and how they say that they are.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout;
use trilith_core::diagnosis::disks::{Disk, Health, Partition, health};

use super::{Disks, FileError, Places, Udev, files, text};

/// Who asks disks for SMART, which takes rights that the agent has not (trilith-smart.socket).
const SMART: &str = "/run/trilith-smart.sock";

/// Asking a disk takes a fraction of a second; one that sleeps or is broken takes longer, and there may be dozens.
const LIMIT: Duration = Duration::from_secs(30);

/// Devices that are no disks, by how their names begin.
const PSEUDO: [&str; 5] = ["loop", "ram", "zram", "dm-", "md"];

/// Every disk of the node.
pub(crate) async fn diagnose() -> Result<Vec<Disk>, FileError> {
    let Disks { places, .. } = Disks::new();
    let mut health = ask(Path::new(SMART)).await;
    let outcomes = places.outcomes(&places.wishes()?)?;
    let blocks = places.disks()?;
    // Loops, memory disks and what lies upon other disks count only with an OSD on them.
    let real = blocks.into_iter().filter(|(name, block)| {
        let pseudo = PSEUDO.iter().any(|kind| name.starts_with(kind));
        outcomes.contains_key(name) || (block.size > 0 && !pseudo)
    });
    let disk = |(name, block): (String, _)| Disk {
        signature: places.signature(&name),
        partitions: places.partitions(&name),
        osd: outcomes.get(&name).cloned(),
        health: health.remove(&name),
        name,
        block,
    };
    Ok(real.map(disk).collect())
}

impl Places {
    fn signature(&self, name: &str) -> Option<String> {
        let udev = self.udev(&self.block.join(name));
        udev.property("ID_FS_TYPE").or_else(|| udev.property("ID_PART_TABLE_TYPE"))
    }

    fn partitions(&self, disk: &str) -> Vec<Partition> {
        let folder = self.block.join(disk);
        let inside = files::list(&folder).unwrap_or_default();
        let parts = inside.into_iter().map(|(name, _)| name);
        let parts = parts.filter(|name| folder.join(name).join("partition").exists());
        let part = |name: String| {
            let (folder, udev) = (folder.join(&name), self.udev(&folder.join(&name)));
            let size = text(&folder.join("size")).and_then(|size| size.parse().ok());
            Partition {
                size: size.map_or(0, |size: u64| size * 512),
                label: udev.property("ID_PART_ENTRY_NAME"),
                signature: udev.property("ID_FS_TYPE"),
                name,
            }
        };
        parts.map(part).collect()
    }

    /// What udev knows of a device, by its folder below /sys.
    pub(super) fn udev(&self, device: &Path) -> Udev {
        let number = text(&device.join("dev"));
        Udev(number.and_then(|number| text(&self.udev.join(format!("b{number}")))))
    }
}

/// What the disks say of themselves. Nobody who could ask, or no answer in time: nothing.
async fn ask(socket: &Path) -> BTreeMap<String, Health> {
    let talk = async {
        let mut text = String::new();
        UnixStream::connect(socket).await?.read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    };
    let text = timeout(LIMIT, talk).await.ok().and_then(Result::ok).unwrap_or_default();
    text.lines().filter_map(health).filter_map(|(name, health)| Some((name, health?))).collect()
}
