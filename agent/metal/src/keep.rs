//! The disk that a node which is not installed keeps its /var on. What is to be done is decided in
//! [`trilith_core::keep`]; here it is done, in the initrd, so that the node is the same one from the first moment.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use trilith_core::boot::Boot;
use trilith_core::keep::{Desired, Keep, Observed, Outcome, Step};
use trilith_core::status::Problem;
use trilith_core::subject::{Plan, Subject as _};

use crate::block::{self, Device, Devices, News};
use crate::state::{self, State};
use crate::{repart, var};

mod given; // the node's bundle, where the initrd has it
mod look; // every disk, and what is on it

use given::Given;
use look::Looking;

/// How the disk is divided: one partition.
const DEFINITIONS: &str = "/usr/lib/trilith/kept-var";

/// How long a disk may take to appear: those behind large adapters come late, and a node without its disk must start, too.
const PATIENCE: Duration = Duration::from_secs(30);

/// Mounts such a disk to `here`, if there is to be one, and gives what came of it; with the UUID of its partition. What goes
/// wrong with it is an outcome, too: /var is memory then.
pub fn run(boot: &Boot, here: &Path) -> (Outcome, Option<String>) {
    find(boot, here).unwrap_or_else(|error| {
        let problem = Problem { object: "var_disk".into(), reason: format!("{error:#}") };
        (Outcome::Memory(vec![problem]), None)
    })
}

/// What a machine without a bundle would take, as things are: whether there is such a disk, and why not if that is not
/// certain.
///
/// # Errors
/// The disks cannot be looked at.
pub fn without_bundle() -> Result<Plan<Step>> {
    let desired = Desired::Kept;
    let looking = Looking { booted: None, desired: &desired, given: None };
    Ok(Keep::plan(&desired, &looking.observe(&Devices::here())?))
}

fn find(boot: &Boot, here: &Path) -> Result<(Outcome, Option<String>)> {
    let devices = Devices::here();
    let news = News::listen(&devices)?;
    // The NICs, by which the bundle is chosen, are there as well when udev has seen everything.
    settle();
    let given = given::read()?;
    let desired = match &given {
        Some(given) => Desired::of(&given.bundle, given.handed_out),
        None if boot.fetched => Desired::Kept,
        None => Desired::Memory,
    };
    let end = Instant::now() + PATIENCE;
    let booted = Some(boot.disk.as_str());
    let looking = Looking { booted, desired: &desired, given: given.as_ref() };
    let mut made: Option<String> = None;
    loop {
        let observed = looking.observe(&devices)?;
        if !desired.is_decided(&observed) && news.wait_until(end)? {
            continue;
        }
        let Plan { steps, problems } = Keep::plan(&desired, &observed);
        if steps.is_empty() {
            return Ok((Outcome::Memory(problems), None));
        }
        let work = Work { devices: &devices, given: given.as_ref(), observed: &observed, here };
        for step in steps {
            eprintln!("{step}");
            match &step {
                Step::Make(disk) if made.is_some() => {
                    bail!("what was made on {disk} is not there")
                }
                Step::Make(disk) => made = Some(disk.clone()),
                Step::WriteState { .. } | Step::Mount(_) => {}
            }
            if let Some(done) = work.apply(&step).with_context(|| step.to_string())? {
                return Ok(done);
            }
        }
        settle();
        if let Some(disk) = &made {
            appears(&devices, disk, &news)?;
        }
    }
}

/// Waits for the partition that was made: it is there when the kernel has read the new table.
fn appears(devices: &Devices, disk: &str, news: &News) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while device(&devices.named(disk)?).is_err() && news.wait_until(end)? {}
    Ok(())
}

/// A device that never comes to rest keeps nothing back.
fn settle() {
    if let Err(error) = block::settle() {
        eprintln!("{error:#}");
    }
}

/// What a step is carried out with.
struct Work<'a> {
    devices: &'a Devices,
    given: Option<&'a Given>,
    observed: &'a Observed,
    here: &'a Path,
}

impl Work<'_> {
    /// Carries it out; gives the outcome, if it was the last.
    fn apply(&self, step: &Step) -> Result<Option<(Outcome, Option<String>)>> {
        match step {
            Step::Make(disk) => repart::divide(&self.devices.named(disk)?, DEFINITIONS)?,
            Step::WriteState { disk, wiped, bundle } => {
                let Given { bundle: node, text, .. } = self.given.context("there is no bundle")?;
                let text = bundle.then_some(text.as_str());
                let state = State { bundle: node, text, prepared: wiped };
                state::write(&device(&self.devices.named(disk)?)?, &state)?;
            }
            Step::Mount(disk) => {
                let kept = self.observed.disks.get(disk).and_then(|disk| disk.kept.as_ref());
                let uuid = kept.context("it has no /var")?.part.uuid.clone();
                self.mount(&self.devices.named(disk)?)?;
                return Ok(Some((Outcome::Disk(disk.clone()), Some(uuid))));
            }
        }
        Ok(None)
    }

    /// The partition takes what the disk has, and the file system in it what the partition has: that is done when it is
    /// mounted (lay-etc), as for every /var.
    fn mount(&self, disk: &Device) -> Result<()> {
        if let Err(error) = repart::grow(disk, DEFINITIONS) {
            // It is as good as it was before the disk grew.
            eprintln!("{} is not grown: {error:#}", disk.name);
        }
        // udev reads the table anew when somebody has had the disk open: the partition is away for a moment.
        settle();
        var::mount_disk(&device(disk)?, self.here)
    }
}

/// Its one partition.
fn device(disk: &Device) -> Result<String> {
    let device = disk.partition(1);
    let device = device.with_context(|| format!("the partition of {} is not there", disk.name))?;
    Ok(device.display().to_string())
}
