//! Every disk, and the /var that is alone on it. Nothing is changed by looking.

use anyhow::Result;
use trilith_core::install::Candidate;
use trilith_core::keep::{Kept, Observed};

use super::Given;
use crate::block::{Device, Devices};
use crate::{candidate, state, table};

/// All disks. `booted`: the kernel's name of the one that the machine was started from; `given`: who judges what is found.
pub(super) fn observe(
    devices: &Devices,
    booted: Option<&str>,
    given: Option<&Given>,
) -> Result<Observed> {
    let all = devices.all()?.into_iter();
    let disks = all.filter(|device| device.is_disk() || booted == Some(&device.name));
    let look = |device: Device| {
        let candidate = look(&device, booted == Some(&device.name), given)?;
        Ok((device.name, candidate))
    };
    Ok(Observed { disks: disks.map(look).collect::<Result<_>>()? })
}

fn look(device: &Device, booted: bool, given: Option<&Given>) -> Result<Candidate> {
    let mut disk = candidate::look(device, booted)?;
    if !candidate::can_be_read(&disk) {
        return Ok(disk);
    }
    let Some(mut kept) = table::read(device)?.and_then(|table| Kept::of(&table.parts)) else {
        return Ok(disk);
    };
    if let Some(given) = given {
        kept.var = Some(state::read(&super::device(device)?, &given.bundle));
    }
    disk.kept = Some(kept);
    Ok(disk)
}
