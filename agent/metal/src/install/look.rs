//! Every disk, and what an installation has left on it. Nothing is changed by looking.

use anyhow::{Context as _, Result};
use trilith_core::install::{Candidate, Layout, Observed, System};

use super::told;
use super::wish::Wish;
use crate::block::{Device, Devices};
use crate::mounted::{Mounted, Way};
use crate::{candidate, esp, state, table};

/// All disks.
pub(super) fn observe(devices: &Devices, wish: &Wish) -> Result<Observed> {
    let all = devices.all()?.into_iter();
    let disks = all.filter(|device| device.is_disk() || device.name == wish.booted);
    let disks = disks.map(|device| Ok((device.name.clone(), look(&device, wish)?)));
    Ok(Observed { disks: disks.collect::<Result<_>>()? })
}

fn look(device: &Device, wish: &Wish) -> Result<Candidate> {
    let mut disk = candidate::about(device, device.name == wish.booted);
    if !candidate::can_be_read(&disk) {
        return Ok(disk);
    }
    disk.signatures = candidate::signatures(device)?;
    if let Some(layout) = table::layout(device)? {
        disk.system = Some(system(device, layout, wish)?);
    }
    Ok(disk)
}

/// What an installation has left.
fn system(device: &Device, layout: Layout, wish: &Wish) -> Result<System> {
    let part = |number: u32| {
        let path = device.partition(number);
        let path =
            path.with_context(|| format!("partition {number} of {} is not there", device.name))?;
        Ok::<_, anyhow::Error>(path.display().to_string())
    };
    let device = part(layout.var.number)?;
    let var = state::read(&device, &wish.bundle);
    // One that cannot be read holds nothing: whoever writes to it says what is wrong with it.
    let found = on_esp(&part(layout.esp.number)?, &device).unwrap_or_default();
    let OnEsp { installed_from, told } = found;
    Ok(System { layout, installed_from, var, told })
}

#[derive(Default)]
struct OnEsp {
    installed_from: Option<String>,
    told: u32,
}

fn on_esp(device: &str, var: &str) -> Result<OnEsp> {
    let esp = Mounted::esp(device, Way::Read)?;
    let found = OnEsp {
        installed_from: esp::installed_from(esp.path())?,
        told: told::times(esp.path(), var)?,
    };
    esp.close()?;
    Ok(found)
}
