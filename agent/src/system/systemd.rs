//! The services adapter: units over D-Bus, and the files that they read.
//!
//! It speaks to systemd over the system bus. The manager's private socket would be there earlier, but it is
//! "private to systemd and should not be used in external projects" (systemd(1)), and services wait for the
//! network anyway. Until the bus is there, `changed` waits for its socket to appear.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use systemd_zbus::{ManagerProxy, Mode, ServiceProxy, UnitProxy};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use trilith_core::services::{
    Active, Desired, File, Manager, OWNED, OWNED_FILES, Observed, Services, Step, Unit, UnitName,
};
use zbus::proxy::CacheProperties;
use zbus::zvariant::OwnedObjectPath;
use zbus::{Connection, MatchRule, MessageStream, message};

use super::files::{self, FileError, Watch};
use crate::reconcile::{Host, HostError, chain};

#[cfg(test)]
mod tests;

/// The system bus's socket (D-Bus specification, "well-known message bus instances").
const BUS: &str = "/run/dbus/system_bus_socket";

/// What failed, and on which unit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemdError {
    #[error("cannot connect to the system bus")]
    Connect(#[source] zbus::Error),
    #[error("cannot subscribe to changes of units")]
    Subscribe(#[source] zbus::Error),
    #[error("cannot look at unit {unit}")]
    Look { unit: UnitName, source: zbus::Error },
    #[error("cannot start unit {unit}")]
    Start { unit: UnitName, source: zbus::Error },
    #[error("cannot stop unit {unit}")]
    Stop { unit: UnitName, source: zbus::Error },
    #[error("the system bus is not there")]
    Away,
    #[error(transparent)]
    File(#[from] FileError),
}

/// The host's service manager and the files of its services.
#[derive(Default)]
pub(crate) struct Systemd {
    bus: Option<Bus>,
    /// Tells when one of the files changes, or the bus's socket appears.
    files: Option<(BTreeSet<PathBuf>, Watch)>,
}

/// A connection to systemd and what comes from it without being asked.
struct Bus {
    manager: ManagerProxy<'static>,
    /// The units whose changes are listened to.
    heard: BTreeSet<UnitName>,
    /// One task for each of them. A stream that nobody reads would block the connection, also for answers.
    listeners: JoinSet<()>,
    /// A unit changed, or the connection is gone.
    event: Arc<Notify>,
}

impl Systemd {
    /// Connects at the first look.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Watches the files that matter and the bus's socket. Called before the look, so that no change falls
    /// between.
    fn watch(&mut self, desired: &Desired) -> Result<(), FileError> {
        let paths: BTreeSet<PathBuf> =
            file_paths(desired).chain([BUS]).map(PathBuf::from).collect();
        if self.files.as_ref().is_none_or(|(watched, _)| *watched != paths) {
            let watch = Watch::new(paths.iter().cloned().collect())?;
            self.files = Some((paths, watch));
        }
        Ok(())
    }

    async fn units(&mut self, desired: &Desired) -> Result<Manager, SystemdError> {
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
        let looked = bus.look(desired).await?;
        self.bus = Some(bus);
        Ok(looked)
    }

    async fn carry_out(&mut self, step: &Step) -> Result<(), SystemdError> {
        match step {
            Step::Write { path, file } => {
                Ok(files::write(Path::new(path), &file.content, file.mode)?)
            }
            Step::Remove(path) => Ok(files::remove(Path::new(path))?),
            Step::Start(unit) => {
                let manager = &self.bus.as_ref().ok_or(SystemdError::Away)?.manager;
                let job = manager.start_unit(unit.as_str(), Mode::Replace).await;
                job.map(drop).map_err(|source| SystemdError::Start { unit: unit.clone(), source })
            }
            Step::Stop(unit) => {
                let manager = &self.bus.as_ref().ok_or(SystemdError::Away)?.manager;
                let job = manager.stop_unit(unit.as_str(), Mode::Replace).await;
                job.map(drop).map_err(|source| SystemdError::Stop { unit: unit.clone(), source })
            }
        }
    }
}

impl Bus {
    /// Connects to the system bus.
    async fn connect() -> Result<Self, SystemdError> {
        let address = format!("unix:path={BUS}");
        let builder = zbus::connection::Builder::address(&*address);
        let connection = builder.map_err(SystemdError::Connect)?.build().await;
        Self::new(connection.map_err(SystemdError::Connect)?).await
    }

    /// Asks systemd to tell of changes.
    async fn new(connection: Connection) -> Result<Self, SystemdError> {
        let subscribe = async || {
            let manager = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No);
            let manager = manager.build().await?;
            manager.subscribe().await?;
            Ok(manager)
        };
        let manager = subscribe().await.map_err(SystemdError::Subscribe)?;
        let event = Arc::new(Notify::new());
        Ok(Self { manager, heard: BTreeSet::new(), listeners: JoinSet::new(), event })
    }

    /// Looks at the owned and the desired units.
    async fn look(&mut self, desired: &Desired) -> Result<Manager, SystemdError> {
        // What came until now is seen by this look.
        let _ = self.event.notified().now_or_never();
        let owned = OWNED.iter().filter_map(|name| UnitName::try_from((*name).to_owned()).ok());
        let names: BTreeSet<UnitName> = desired.units.iter().cloned().chain(owned).collect();
        let mut units = BTreeMap::new();
        for name in names {
            let unit = self.unit(&name).await;
            let unit = unit.map_err(|source| SystemdError::Look { unit: name.clone(), source })?;
            units.insert(name, unit);
        }
        Ok(Manager::Units(units))
    }

    async fn unit(&mut self, name: &UnitName) -> zbus::Result<Unit> {
        let path = self.manager.load_unit(name.as_str()).await?;
        // Listened to before the look, so that no change falls between.
        if !self.heard.contains(name) {
            self.listen(&path).await?;
            self.heard.insert(name.clone());
        }
        let connection = self.manager.inner().connection();
        let service = name.as_str().ends_with(".service");
        let result = if service { service_result(connection, &path).await? } else { String::new() };
        unit_state(connection, &path, result).await
    }

    /// Listens to one unit. The bus sorts out everything else, so that a busy host does not wake the agent.
    async fn listen(&mut self, path: &OwnedObjectPath) -> zbus::Result<()> {
        let rule = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .interface("org.freedesktop.DBus.Properties")?
            .member("PropertiesChanged")?
            .path(path.as_ref())?
            .build();
        let connection = self.manager.inner().connection();
        let mut changes = MessageStream::for_match_rule(rule, connection, None).await?;
        let event = Arc::clone(&self.event);
        self.listeners.spawn(async move {
            while changes.next().await.is_some_and(|change| change.is_ok()) {
                event.notify_one();
            }
            // The connection is gone: the next look finds out why.
            event.notify_one();
        });
        Ok(())
    }
}

/// The few properties that count. The generated enum of active states refuses what a newer systemd may say, and
/// one such unit must not hide the others: hence the text.
async fn unit_state(
    connection: &Connection,
    path: &OwnedObjectPath,
    result: String,
) -> zbus::Result<Unit> {
    let unit = UnitProxy::builder(connection)
        .path(path)?
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    let active: String = unit.inner().get_property("ActiveState").await?;
    let (job, _) = unit.job().await?;
    Ok(Unit {
        load: unit.load_state().await?,
        active: parse_active(&active),
        job: job != 0,
        result,
    })
}

async fn service_result(connection: &Connection, path: &OwnedObjectPath) -> zbus::Result<String> {
    let service =
        ServiceProxy::builder(connection).path(path)?.cache_properties(CacheProperties::No);
    service.build().await?.result().await
}

fn parse_active(state: &str) -> Active {
    match state {
        "active" => Active::Active,
        "reloading" => Active::Reloading,
        "inactive" => Active::Inactive,
        "failed" => Active::Failed,
        "activating" => Active::Activating,
        "deactivating" => Active::Deactivating,
        _ => Active::Other,
    }
}

/// The owned and the desired files.
fn file_paths(desired: &Desired) -> impl Iterator<Item = &str> {
    desired.files.keys().map(String::as_str).chain(OWNED_FILES)
}

/// Those of them that exist.
fn observe_files(desired: &Desired) -> Result<BTreeMap<String, File>, FileError> {
    let mut found = BTreeMap::new();
    for path in file_paths(desired) {
        if let Some(file) = files::read(Path::new(path))? {
            found.insert(path.to_owned(), File { content: file.text, mode: file.mode });
        }
    }
    Ok(found)
}

impl Host<Services> for Systemd {
    async fn observe(&mut self, desired: &Desired) -> Result<Observed, HostError> {
        self.watch(desired)?;
        Ok(Observed { files: observe_files(desired)?, units: self.units(desired).await? })
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
        let files = async {
            match &mut self.files {
                Some((_, watch)) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        // Cancel safety: a `Notify` that is dropped while it waits keeps its permit, and `Watch::changed` says
        // of itself that it is.
        let lost = tokio::select! {
            () = units => false,
            watched = files => watched.is_err(),
        };
        if lost {
            self.files = None;
        }
    }
}
