//! Every disk, and the /var that is alone on it. Nothing is changed by looking.

use anyhow::Result;
use trilith_core::install::Candidate;
use trilith_core::keep::{Desired, Kept, Observed};

use super::Given;
use crate::block::{Device, Devices};
use crate::{candidate, state, table};

/// For what is looked.
pub(super) struct Looking<'a> {
    /// The kernel's name of the disk that the machine was started from.
    pub(super) booted: Option<&'a str>,
    /// What is to be.
    pub(super) desired: &'a Desired,
    /// Who judges what is found.
    pub(super) given: Option<&'a Given>,
}

impl Looking<'_> {
    /// All disks.
    pub(super) fn observe(&self, devices: &Devices) -> Result<Observed> {
        let all = devices.all()?.into_iter();
        let disks = all.filter(|device| device.is_disk() || self.is_booted(device));
        Ok(Observed { disks: disks.map(|it| (it.name.clone(), self.disk(&it))).collect() })
    }

    fn is_booted(&self, device: &Device) -> bool {
        self.booted == Some(&device.name)
    }

    /// One that cannot be read is not blank, and keeps nobody from taking another.
    fn disk(&self, device: &Device) -> Candidate {
        let mut disk = candidate::about(device, self.is_booted(device));
        if let Err(error) = self.read(device, &mut disk) {
            eprintln!("{error:#}");
            disk.signatures.insert("unreadable".into());
        }
        disk
    }

    fn read(&self, device: &Device, disk: &mut Candidate) -> Result<()> {
        if !candidate::can_be_read(disk) {
            return Ok(());
        }
        if self.desired.asks_what_is_on(disk) {
            disk.signatures = candidate::signatures(device)?;
        }
        // Only one with a single partition can be such a disk.
        if device.partitions().len() != 1 {
            return Ok(());
        }
        let kept = table::read(device)?.and_then(|table| Kept::of(&table.parts));
        if let Some(mut kept) = kept {
            let device = super::device(device)?;
            kept.var = self.given.map(|given| state::read(&device, &given.bundle));
            disk.kept = Some(kept);
        }
        Ok(())
    }
}
