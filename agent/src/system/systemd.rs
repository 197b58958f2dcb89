//! The services adapter: units over D-Bus, and the files that they read.
//!
//! It speaks to systemd over the system bus. The manager's private socket would be there earlier, but it is
//! "private to systemd and should not be used in external projects" (systemd(1)), and services wait for the
//! network anyway. Until the bus is there, `changed` waits for its socket to appear.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use trilith_core::services::{Desired, Manager, Observed, Services, Step, UnitName, UnitWish};

use super::files::{FileError, Watched};
use crate::reconcile::{Host, HostError, chain};

mod bus; // the connection, jobs and news
mod checker; // whether a service would take a configuration
mod disk; // files and marks
mod journal; // what a unit in trouble said
mod limits; // resource controls
#[cfg(test)]
mod netns; // configurations checked by real programs
#[cfg(test)]
mod tests;
mod unit; // one unit's properties

use bus::{BUS, Bus};
use checker::CheckError;

/// What failed, and on which unit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemdError {
    #[error("cannot connect to the system bus")]
    Connect(#[source] zbus::Error),
    #[error("cannot subscribe to changes of units")]
    Subscribe(#[source] zbus::Error),
    #[error("cannot list the units")]
    List(#[source] zbus::Error),
    #[error("cannot {what} unit {unit}")]
    Unit { what: &'static str, unit: UnitName, source: Box<zbus::Error> },
    #[error("unit {unit} did not reload: {result}")]
    Reload { unit: UnitName, result: String },
    #[error("the system bus is not there")]
    Away,
    #[error("the new {path} is refused, the old one stays")]
    Refused { path: String, source: CheckError },
    #[error(transparent)]
    File(#[from] FileError),
}

impl SystemdError {
    /// What was asked of systemd, about which unit.
    fn of(what: &'static str, unit: &UnitName) -> impl Fn(zbus::Error) -> Self {
        move |source| Self::Unit { what, unit: unit.clone(), source: Box::new(source) }
    }
}

/// The host's service manager and the files of its services.
#[derive(Default)]
pub(crate) struct Systemd {
    bus: Option<Bus>,
    /// Tells when one of the files changes, or the bus's socket appears.
    files: Watched,
}

impl Systemd {
    /// Connects at the first look.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Looks at the disk, with the watches set before so that no change falls between. Which paths matter follows
    /// from what is found, so it may take a second look.
    fn disk(&mut self, desired: &Desired) -> Result<disk::Disk, FileError> {
        loop {
            let found = disk::look(desired)?;
            let paths = disk::paths(desired, &found.wishes).into_iter();
            if !self.files.on(paths.chain([BUS.into()]))? {
                return Ok(found);
            }
        }
    }

    async fn units(
        &mut self,
        wishes: &BTreeMap<UnitName, UnitWish>,
    ) -> Result<Manager, SystemdError> {
        if self.bus.is_none() && !Path::new(BUS).exists() {
            return Ok(Manager::Away(format!("there is no {BUS}")));
        }
        let bus = match self.bus.take() {
            Some(bus) => Ok(bus),
            None => Bus::connect().await,
        };
        let mut bus = match bus {
            Ok(bus) => bus,
            Err(error @ SystemdError::Connect(_)) => {
                return Ok(Manager::Away(chain(&error).to_string()));
            }
            Err(error) => return Err(error),
        };
        // Kept only after a look that succeeded: a connection that failed, or hung until this call was dropped,
        // is not used again.
        let looked = bus.look(wishes).await?;
        self.bus = Some(bus);
        Ok(Manager::Units(looked))
    }

    fn bus(&self) -> Result<&Bus, SystemdError> {
        self.bus.as_ref().ok_or(SystemdError::Away)
    }

    async fn carry_out(&mut self, step: &Step) -> Result<(), SystemdError> {
        match step {
            Step::Folder { path, folder } => Ok(disk::make_folder(path, folder)?),
            Step::Remove { path, marks } => Ok(disk::remove(path, marks)?),
            Step::Write { path, file, marks } => disk::write(path, file, marks).await,
            Step::Unmark(unit) => Ok(disk::unmark(unit)?),
            Step::Limit { unit, limits } => self.bus()?.limit(unit, limits).await,
            Step::Start(unit) => self.bus()?.start(unit).await,
            Step::Stop(unit) => self.bus()?.stop(unit).await,
            Step::Forgive(unit) => self.bus()?.forgive(unit).await,
            // Unmarked afterwards: now it runs with what is on the disk.
            Step::Reload(unit) => {
                self.bus()?.reload(unit).await?;
                Ok(disk::unmark(unit)?)
            }
            Step::Restart(unit) => {
                self.bus()?.restart(unit).await?;
                Ok(disk::unmark(unit)?)
            }
        }
    }
}

impl Host<Services> for Systemd {
    async fn observe(&mut self, desired: &Desired) -> Result<Observed, HostError> {
        let disk = self.disk(desired)?;
        let units = self.units(&disk.wishes).await?;
        let disk::Disk { instances, wishes: _, files, folders, strays, pending, exists, capacity } =
            disk;
        Ok(Observed { units, instances, files, folders, strays, pending, exists, capacity })
    }

    async fn apply(&mut self, step: &Step) -> Result<(), HostError> {
        Ok(self.carry_out(step).await?)
    }

    async fn changed(&mut self) {
        let bus = self.bus.as_ref().map(|bus| Arc::clone(&bus.event));
        let units = async {
            match bus {
                Some(event) => event.notified().await,
                None => std::future::pending().await,
            }
        };
        // Cancel safety: a `Notify` that is dropped while it waits keeps its permit, and `Watched::changed` says of
        // itself that it is.
        tokio::select! {
            () = units => {}
            () = self.files.changed() => {}
        }
    }
}
