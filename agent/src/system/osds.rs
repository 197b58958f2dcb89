//! The OSD adapter: the node's disks, and the wishes for OSDs on them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use trilith_core::disks::{Block, Facts};
use trilith_core::osds::{Desired, FOLDER, Observed, Osds, PREFIX, Step, Wish, number};

use super::admin_socket;
use super::files::{self, ANYTHING, FileError, Watched};
use crate::reconcile::{Host, HostError};
use crate::wake;

mod diagnosis; // all disks for a person
#[cfg(test)]
mod tests;

pub(crate) use diagnosis::diagnose;

/// How often OSDs are asked when nothing is known to have changed: one that the monitors take for down tells nobody on
/// this node.
const AGAIN: Duration = Duration::from_secs(5);

/// Where things are.
struct Places {
    /// Every block device of the kernel.
    block: PathBuf,
    /// Those that this node may use; below it, their names by ID and by path.
    devices: PathBuf,
    /// What udev knows of each.
    udev: PathBuf,
    wishes: PathBuf,
    /// The OSDs' admin sockets.
    sockets: PathBuf,
}

/// The host's disks.
pub(crate) struct Disks {
    places: Places,
    files: Watched,
    /// When it looks again; never where there is no OSD.
    again: Option<Instant>,
    requests: u64,
}

/// The part of an OSD's answer to `status` that counts.
#[derive(Deserialize)]
struct Status {
    state: String,
}

impl Disks {
    /// Looks at nothing yet.
    pub(crate) fn new() -> Self {
        let places = Places {
            block: "/sys/block".into(),
            devices: "/dev".into(),
            udev: "/run/udev/data".into(),
            wishes: FOLDER.into(),
            sockets: admin_socket::FOLDER.into(),
        };
        Self { places, files: Watched::default(), again: None, requests: 0 }
    }

    async fn look(&mut self, desired: &Desired) -> Result<Observed, FileError> {
        // A node without rules has no use for a list of its disks.
        let mut paths = vec![self.places.wishes.join(ANYTHING)];
        if !desired.rules.is_empty() {
            let links = ["disk/by-id", "disk/by-path"].map(|name| self.places.devices.join(name));
            paths.extend(links.map(|links| links.join(ANYTHING)));
        }
        let wishes = self.places.wishes()?;
        paths.extend(wishes.keys().map(|disk| self.places.wish(disk).join("state")));
        let outcomes = self.places.outcomes(&wishes)?;
        let numbers = wishes.keys().filter_map(|disk| number(&outcomes, disk));
        paths.extend(numbers.map(|number| self.places.socket(number)));
        self.files.on(paths)?;
        let disks = if desired.rules.is_empty() { BTreeMap::new() } else { self.places.disks()? };
        let states = self.states(&outcomes).await;
        let any = outcomes.keys().any(|disk| number(&outcomes, disk).is_some());
        self.again = any.then(|| Instant::now() + AGAIN);
        Ok(Observed { disks, wishes, outcomes, states })
    }

    /// What the OSDs say of themselves, by the disk's name.
    async fn states(&mut self, outcomes: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut states = BTreeMap::new();
        for disk in outcomes.keys() {
            let Some(number) = number(outcomes, disk) else { continue };
            self.requests = self.requests.saturating_add(1);
            let answer = admin_socket::ask(&self.places.socket(number), "status").await;
            // One that does not answer, or not as OSDs do, is not there.
            if let Ok(json) = answer
                && let Ok(Status { state }) = serde_json::from_slice(&json)
            {
                states.insert(disk.clone(), state);
            }
        }
        states
    }
}

impl Places {
    /// The folder of one disk's wish.
    fn wish(&self, disk: &str) -> PathBuf {
        self.wishes.join(format!("{PREFIX}{disk}"))
    }

    fn socket(&self, number: &str) -> PathBuf {
        self.sockets.join(format!("ceph-osd.{number}.asok"))
    }

    /// What came of the wishes, by the disk's name.
    fn outcomes(
        &self,
        wishes: &BTreeMap<String, Wish>,
    ) -> Result<BTreeMap<String, String>, FileError> {
        let outcome = |disk: &String| {
            let found = files::read(&self.wish(disk).join("state")).transpose()?;
            Some(found.map(|found| (disk.clone(), found.text.trim().to_owned())))
        };
        wishes.keys().filter_map(outcome).collect()
    }

    fn wishes(&self) -> Result<BTreeMap<String, Wish>, FileError> {
        let mut wishes = BTreeMap::new();
        for (folder, _) in files::list(&self.wishes)? {
            let Some(disk) = folder.strip_prefix(PREFIX) else { continue };
            let text = files::read(&self.wish(disk).join("wish"))?.map(|found| found.text);
            wishes.insert(disk.to_owned(), Wish(text.unwrap_or_default()));
        }
        Ok(wishes)
    }

    /// Every disk that has a device node here: a container sees all of the host in /sys, and its own in /dev.
    fn disks(&self) -> Result<BTreeMap<String, Block>, FileError> {
        let (ids, paths) = (self.links("disk/by-id")?, self.links("disk/by-path")?);
        let mut disks = BTreeMap::new();
        for (name, _) in files::list(&self.block)? {
            if self.devices.join(&name).exists() {
                let mut disk = self.about(&name);
                disk.ids = ids.get(&name).cloned().unwrap_or_default();
                disk.paths = paths.get(&name).cloned().unwrap_or_default();
                disks.insert(name, disk);
            }
        }
        Ok(disks)
    }

    /// The names in a folder of links, by the device that they lead to.
    fn links(&self, folder: &str) -> Result<BTreeMap<String, BTreeSet<String>>, FileError> {
        let folder = self.devices.join(folder);
        let mut links: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (link, _) in files::list(&folder)? {
            // A link to nothing is one that udev is about to remove.
            let Ok(device) = std::fs::canonicalize(folder.join(&link)) else { continue };
            if let Some(name) = device.file_name().and_then(|name| name.to_str()) {
                links.entry(name.to_owned()).or_default().insert(link);
            }
        }
        Ok(links)
    }

    /// What the kernel and udev say of a disk. What cannot be read is not there.
    fn about(&self, name: &str) -> Block {
        let folder = self.block.join(name);
        let real = std::fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone());
        let udev = self.udev(&folder);
        let (file, property) =
            (|path: &str| text(&folder.join(path)), |key: &str| udev.property(key));
        Block::about(&Facts {
            name,
            folder: &real.to_string_lossy(),
            file: &file,
            property: &property,
        })
    }

    fn carry_out(&self, step: &Step) -> Result<(), FileError> {
        match step {
            Step::Unwish(disk) => {
                let path = self.wish(disk);
                match std::fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(FileError::Remove { path, source: error })
                    }
                    _ => Ok(()),
                }
            }
            Step::Wish { disk, wish } => files::publish(&self.wish(disk).join("wish"), &wish.0),
        }
    }
}

/// What udev knows of a device, if it knows it.
struct Udev(Option<String>);

impl Udev {
    fn property(&self, key: &str) -> Option<String> {
        let lines = self.0.as_deref().unwrap_or_default().lines();
        lines
            .filter_map(|line| line.strip_prefix("E:")?.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.to_owned())
    }
}

fn text(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

impl Host<Osds> for Disks {
    async fn observe(&mut self, desired: &Desired) -> Result<Observed, HostError> {
        Ok(self.look(desired).await?)
    }

    async fn apply(&mut self, step: &Step) -> Result<(), HostError> {
        Ok(self.places.carry_out(step)?)
    }

    async fn changed(&mut self) {
        // Cancel safety: both say of themselves that they are, and the moment does not move.
        tokio::select! {
            () = self.files.changed() => {}
            () = wake::at(self.again) => {}
        }
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}
