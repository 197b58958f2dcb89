//! What is said of an installation: to the agent, which shows it on the consoles, and to the journal.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use trilith_core::disks;
use trilith_core::install::{Observed, STATE, Step};
use trilith_core::status::Problem;

/// Says what there is to say, once.
pub(super) struct Teller {
    said: RefCell<String>,
}

impl Teller {
    pub(super) fn new() -> Result<Self> {
        let folder = Path::new(STATE).parent().context("no folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { said: RefCell::default() })
    }

    /// What is being done.
    pub(super) fn doing(&self, subject: &str, words: &str) -> Result<()> {
        self.say(&format!("installing on {subject}: {words}\n"))
    }

    /// Why nothing is done.
    pub(super) fn refused(&self, problems: &[Problem]) -> Result<()> {
        let lines = problems.iter().map(|problem| format!("  {problem}\n"));
        self.say(&format!("not installed\n{}", lines.collect::<String>()))
    }

    /// What failed.
    pub(super) fn failed(&self, error: &Error, pause: Duration) -> Result<()> {
        self.say(&format!("not installed yet: {error:#}; again in {} s\n", pause.as_secs()))
    }

    fn say(&self, text: &str) -> Result<()> {
        if *self.said.borrow() == text {
            return Ok(());
        }
        text.clone_into(&mut self.said.borrow_mut());
        eprint!("{text}");
        let beside = format!("{STATE}.new");
        let put = fs::write(&beside, text).and_then(|()| fs::rename(&beside, STATE));
        put.with_context(|| format!("cannot write {STATE}"))
    }
}

/// What a person knows the disk by.
pub(super) fn subject(disk: &str, observed: &Observed) -> String {
    let Some(about) = observed.disks.get(disk) else { return disk.to_owned() };
    let block = &about.block;
    let serial = block.serial.as_ref().map(|serial| format!("serial {serial}"));
    let parts = [Some(disks::size(block.size)), block.model.clone(), serial];
    format!("{disk} ({})", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// What a step is for, on which disk; `None`: it tells by itself.
pub(super) fn doing(step: &Step) -> Option<(&str, &'static str)> {
    match step {
        Step::Partition(disk) => Some((disk, "dividing it into partitions")),
        Step::CopySlot(disk, _) => Some((disk, "copying the release: 0 %")),
        Step::VerifySlot(disk, _) => Some((disk, "reading the release back")),
        Step::WriteState(disk) => Some((disk, "writing who the node is")),
        Step::WriteKernel(disk) => Some((disk, "writing loader and kernel")),
        Step::BootEntries(disk) => Some((disk, "telling the firmware")),
        Step::BootNext(disk) => Some((disk, "installed; the machine starts from it now")),
        Step::EmptySlot(..) | Step::NameSlot(..) | Step::Remember(_) | Step::Reboot => None,
    }
}
