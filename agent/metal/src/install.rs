//! The installation of a node, as a loop: observe → plan → apply → observe again, until the machine reboots. What is to be
//! done is decided in [`trilith_core::install`]; here it is done.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::unistd;
use trilith_core::install::{FOLDER, Install, Observed, Slot, Step, System};
use trilith_core::status::Problem;
use trilith_core::subject::{Plan, Subject as _};

use crate::block::{self, Device, Devices, News};
use crate::mounted::{Mounted, Way};
use crate::state::{self, State};
use crate::{boot_entries, esp, exec, repart, slot, table};

mod look; // every disk, and what is on it
mod pace; // pauses between tries
mod tell; // what is said of it
mod told; // how often the firmware was told to start a disk
mod wish; // what the agent wishes for

use tell::Teller;
use wish::Wish;

/// How an installed disk is divided: overlays/install, as the image has it.
const DEFINITIONS: &str = "/usr/lib/trilith/install";

/// Installs, however often it takes, and never returns but with an error: the machine reboots.
///
/// # Errors
/// What happens to disks cannot be followed; whatever else fails is told, and tried again.
pub fn run() -> Result<()> {
    let devices = Devices::here();
    let news = News::listen(&devices)?.and(Path::new(FOLDER))?;
    let teller = Teller::new()?;
    let mut pauses = pace::pauses();
    loop {
        match pass(&devices, &teller) {
            // It is told to end by whoever takes the machine down.
            Ok(Outcome::Rebooting) => unistd::pause(),
            Ok(Outcome::GoneOn) => pauses.reset(),
            Ok(Outcome::Refused(problems)) => {
                teller.refused(&problems)?;
                news.wait()?;
            }
            Err(error) => {
                let pause = pauses.next_pause();
                teller.failed(&error, pause)?;
                pace::wait(pause)?;
            }
        }
    }
}

/// What came of a pass.
enum Outcome {
    /// Everything is done, and the machine goes down.
    Rebooting,
    /// All steps are done, and there is more to see now.
    GoneOn,
    /// Nothing can be done as things are.
    Refused(Vec<Problem>),
}

/// One pass.
fn pass(devices: &Devices, teller: &Teller) -> Result<Outcome> {
    block::settle()?;
    let wish = Wish::read(devices)?;
    let observed = look::observe(devices, &wish)?;
    let Plan { steps, problems } = Install::plan(&wish.desired, &observed);
    if !problems.is_empty() {
        return Ok(Outcome::Refused(problems));
    }
    for step in &steps {
        let work = Work { devices, wish: &wish, observed: &observed, teller };
        work.apply(step).with_context(|| step.to_string())?;
    }
    Ok(if steps.last() == Some(&Step::Reboot) { Outcome::Rebooting } else { Outcome::GoneOn })
}

/// What a step is carried out with.
struct Work<'a> {
    devices: &'a Devices,
    wish: &'a Wish,
    observed: &'a Observed,
    teller: &'a Teller,
}

impl Work<'_> {
    fn apply(&self, step: &Step) -> Result<()> {
        if let Some((disk, words)) = tell::doing(step) {
            self.teller.doing(&tell::subject(disk, self.observed), words)?;
        }
        match step {
            Step::Partition(disk) => repart::divide(&self.disk(disk)?, DEFINITIONS),
            Step::EmptySlot(disk, slot) => {
                table::empty(&self.disk(disk)?, *slot)?;
                block::settle()
            }
            Step::CopySlot(disk, slot) => self.copy(disk, self.parts(disk, *slot)?),
            Step::VerifySlot(disk, slot) => self.verify(disk, self.parts(disk, *slot)?),
            Step::NameSlot(disk, slot) => {
                table::name(&self.disk(disk)?, *slot, &self.wish.desired.release)?;
                block::settle()
            }
            Step::WriteState(disk) => {
                let var = self.device(disk, self.system(disk)?.layout.var.number)?;
                let Wish { bundle, text, desired, .. } = self.wish;
                let state = State { bundle, text: Some(text), prepared: &desired.medium };
                state::write(&var, &state)
            }
            Step::WriteKernel(disk) => self.write_kernel(disk),
            Step::Remember(disk) => {
                let esp = Mounted::esp(&self.esp(disk)?, Way::Write)?;
                esp::remember(esp.path(), &self.wish.desired.medium)?;
                esp.close()
            }
            Step::BootEntries(disk) => {
                boot_entries::ensure(disk, &self.system(disk)?.layout.esp.uuid)
            }
            Step::BootNext(disk) => {
                self.count(disk)?;
                boot_entries::next(disk, &self.system(disk)?.layout.esp.uuid)
            }
            Step::Reboot => exec::run("systemctl", &["reboot"]),
        }
    }

    fn disk(&self, name: &str) -> Result<Device> {
        self.devices.named(name)
    }

    fn system(&self, disk: &str) -> Result<&System> {
        let system = self.observed.disks.get(disk).and_then(|disk| disk.system.as_ref());
        system.with_context(|| format!("{disk} is not divided"))
    }

    /// The device of a partition.
    fn device(&self, disk: &str, number: u32) -> Result<String> {
        let device = self.disk(disk)?.partition(number);
        let device =
            device.with_context(|| format!("partition {number} of {disk} is not there"))?;
        Ok(device.display().to_string())
    }

    fn esp(&self, disk: &str) -> Result<String> {
        self.device(disk, self.system(disk)?.layout.esp.number)
    }

    /// Counts that the firmware is told to start the disk.
    fn count(&self, disk: &str) -> Result<()> {
        let var = self.device(disk, self.system(disk)?.layout.var.number)?;
        let esp = Mounted::esp(&self.esp(disk)?, Way::Write)?;
        told::once_more(esp.path(), &var)?;
        esp.close()
    }

    /// The devices of a slot: root and hash tree.
    fn parts(&self, disk: &str, slot: Slot) -> Result<[String; 2]> {
        let Some((root, tree)) = self.system(disk)?.layout.slots.get(slot.0) else {
            bail!("{disk} has no {slot}")
        };
        Ok([self.device(disk, root.number)?, self.device(disk, tree.number)?])
    }

    fn copy(&self, disk: &str, [root, tree]: [String; 2]) -> Result<()> {
        let subject = tell::subject(disk, self.observed);
        let pairs = [(&self.wish.root, &root), (&self.wish.tree, &tree)];
        slot::copy(&pairs, |percent| {
            self.teller.doing(&subject, &format!("copying the release: {percent} %"))
        })
    }

    fn verify(&self, disk: &str, [root, tree]: [String; 2]) -> Result<()> {
        let verified = slot::verify(&root, &tree, &self.wish.hash);
        verified.with_context(|| format!("what was written to {disk} is not the release"))
    }

    /// Loader and kernel, and no kernel any more whose root was overwritten, or that would start in its place.
    fn write_kernel(&self, disk: &str) -> Result<()> {
        let release = Mounted::esp(&self.wish.esp, Way::Read)?;
        let esp = Mounted::esp(&self.esp(disk)?, Way::Write)?;
        esp::place(esp.path(), release.path())?;
        let layout = table::layout(&self.disk(disk)?)?;
        let layout = layout.with_context(|| format!("{disk} is not divided"))?;
        esp::retire(esp.path(), &layout.may_start(&self.wish.desired.release))?;
        esp.close()?;
        release.close()
    }
}
