//! The connection to systemd: units as they are, jobs, and news.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use systemd_zbus::{ManagerProxy, Mode};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use trilith_core::services::{Limits, Unit, UnitName, UnitWish, owned};
use zbus::names::ErrorName;
use zbus::proxy::CacheProperties;
use zbus::zvariant::OwnedObjectPath;
use zbus::{Connection, MatchRule, MessageStream, message};

use super::SystemdError;
use super::limits;
use super::unit::{self, Listed};

/// The system bus's socket (D-Bus specification, "well-known message bus instances").
pub(super) const BUS: &str = "/run/dbus/system_bus_socket";

/// A job that somebody else has queued is never replaced: a start in the middle of `systemctl emergency` or of a
/// shutdown would pull in targets that undo it. It fails instead, and the next look sees what came of the other.
const JOB_MODE: Mode = Mode::Fail;

/// How many jobs may end until the one that is waited for is known: all of a node's at once.
const JOBS: usize = 1024;

/// A connection to systemd and what comes from it without being asked.
pub(super) struct Bus {
    manager: ManagerProxy<'static>,
    /// The units whose changes are listened to.
    heard: BTreeSet<UnitName>,
    /// One task for each of them. A stream that nobody reads would block the connection, also for answers.
    listeners: JoinSet<()>,
    /// A unit changed, or the connection is gone.
    pub(super) event: Arc<Notify>,
}

impl Bus {
    /// Connects to the system bus.
    pub(super) async fn connect() -> Result<Self, SystemdError> {
        let address = format!("unix:path={BUS}");
        let builder = zbus::connection::Builder::address(&*address);
        let connection = builder.map_err(SystemdError::Connect)?.build().await;
        Self::new(connection.map_err(SystemdError::Connect)?).await
    }

    /// Asks systemd to tell of changes.
    pub(super) async fn new(connection: Connection) -> Result<Self, SystemdError> {
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

    fn connection(&self) -> &Connection {
        self.manager.inner().connection()
    }

    /// Looks at the owned and the desired units.
    pub(super) async fn look(
        &mut self,
        wishes: &BTreeMap<UnitName, UnitWish>,
    ) -> Result<BTreeMap<UnitName, Unit>, SystemdError> {
        // What came until now is seen by this look.
        let _ = self.event.notified().now_or_never();
        let names: BTreeSet<UnitName> = wishes.keys().chain(owned::UNITS).cloned().collect();
        let instances = self.owned_instances().await.map_err(SystemdError::List)?;
        for name in names.iter().chain(&instances) {
            // Listened to before the look, so that no change falls between.
            let heard = self.hear(name).await;
            heard.map_err(SystemdError::of("look at", name))?;
        }
        let names: Vec<&str> = names.union(&instances).map(UnitName::as_str).collect();
        let listed = self.list("ListUnitsByNames", &(&names,)).await.map_err(SystemdError::List)?;
        let nothing = Limits::default();
        let mut units = BTreeMap::new();
        for listed in listed {
            let Ok(name) = UnitName::try_from(listed.name.clone()) else { continue };
            let wanted = wishes.get(&name).map_or(&nothing, |wish| &wish.limits);
            let unit = unit::look(self.connection(), &name, &listed, wanted).await;
            let unit = unit.map_err(SystemdError::of("look at", &name))?;
            units.insert(name, unit);
        }
        Ok(units)
    }

    /// The instances of owned templates that systemd knows of, whoever started them.
    async fn owned_instances(&self) -> zbus::Result<BTreeSet<UnitName>> {
        let pattern = |template: &str| template.replacen("@.", "@*.", 1);
        let patterns: Vec<String> =
            owned::TEMPLATES.iter().map(|template| pattern(template.as_str())).collect();
        if patterns.is_empty() {
            return Ok(BTreeSet::new());
        }
        // Not an array of no elements, which is another type on the bus.
        let none: Vec<String> = Vec::new();
        let listed = self.list("ListUnitsByPatterns", &(none, patterns)).await?;
        Ok(listed.into_iter().filter_map(|unit| UnitName::try_from(unit.name).ok()).collect())
    }

    /// The generated call refuses states that a newer systemd may have, and one such unit must not hide the others:
    /// hence the text.
    async fn list<A>(&self, method: &str, arguments: &A) -> zbus::Result<Vec<Listed>>
    where
        A: serde::Serialize + zbus::zvariant::DynamicType + Sync,
    {
        self.manager.inner().call(method, arguments).await
    }

    /// Listens to one unit. The bus sorts out everything else, so that a busy host does not wake the agent. The
    /// unit's job is one of its properties, so that the end of a job is such a change.
    async fn hear(&mut self, name: &UnitName) -> zbus::Result<()> {
        if self.heard.contains(name) {
            return Ok(());
        }
        let path = self.manager.load_unit(name.as_str()).await?;
        // systemd unloads a unit that is off and that nobody refers to, and tells of that all units it depends on;
        // each look would load it again, and so be the cause of the next one. Ends with the connection.
        match self.manager.ref_unit(name.as_str()).await {
            // Nobody can refer to a unit that has no file or is masked: that it is so, the look tells.
            Err(zbus::Error::MethodError(error, ..)) if is_of_systemd(&error) => return Ok(()),
            referred => referred?,
        }
        let rule = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .interface("org.freedesktop.DBus.Properties")?
            .member("PropertiesChanged")?
            .path(path.as_ref())?
            .build();
        let mut changes = MessageStream::for_match_rule(rule, self.connection(), None).await?;
        let event = Arc::clone(&self.event);
        self.listeners.spawn(async move {
            while changes.next().await.is_some_and(|change| change.is_ok()) {
                event.notify_one();
            }
            // The connection is gone: the next look finds out why.
            event.notify_one();
        });
        self.heard.insert(name.clone());
        Ok(())
    }

    /// Starts a unit. That systemd has taken the job is enough: how it ends, the unit's state tells.
    pub(super) async fn start(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let job = self.manager.start_unit(unit.as_str(), JOB_MODE).await;
        job.map(drop).map_err(SystemdError::of("start", unit))
    }

    /// Stops a unit.
    pub(super) async fn stop(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let job = self.manager.stop_unit(unit.as_str(), JOB_MODE).await;
        job.map(drop).map_err(SystemdError::of("stop", unit))
    }

    /// Restarts a unit. Whatever becomes of the job, what runs afterwards has read its files anew.
    pub(super) async fn restart(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let job = self.manager.restart_unit(unit.as_str(), JOB_MODE).await;
        job.map(drop).map_err(SystemdError::of("restart", unit))
    }

    /// Reloads a unit and waits for the result, since nothing else tells of it.
    pub(super) async fn reload(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let failed = SystemdError::of("reload", unit);
        let mut removed = self.removed_jobs().await.map_err(&failed)?;
        let job = self.manager.reload_unit(unit.as_str(), Mode::Replace).await.map_err(&failed)?;
        while let Some(signal) = removed.next().await {
            let body = signal.map_err(&failed)?.body();
            let (_, ended, _, result): (u32, OwnedObjectPath, &str, &str) =
                body.deserialize().map_err(&failed)?;
            if ended != job {
                continue;
            }
            return match result {
                "done" => Ok(()),
                _ => Err(SystemdError::Reload { unit: unit.clone(), result: result.to_owned() }),
            };
        }
        Err(SystemdError::Away)
    }

    /// The jobs that end from now on. The generated stream asks the bus who systemd is, each time anew.
    async fn removed_jobs(&self) -> zbus::Result<MessageStream> {
        let rule = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .interface("org.freedesktop.systemd1.Manager")?
            .member("JobRemoved")?
            .build();
        MessageStream::for_match_rule(rule, self.connection(), Some(JOBS)).await
    }

    /// Sets resource controls until the next boot.
    pub(super) async fn limit(&self, unit: &UnitName, limits: &Limits) -> Result<(), SystemdError> {
        let properties = limits::properties(limits);
        let set = self.manager.set_unit_properties(unit.as_str(), true, &properties).await;
        set.map_err(SystemdError::of("limit", unit))
    }

    /// Makes systemd forget the failures and restarts of a unit.
    pub(super) async fn forgive(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let reset = self.manager.reset_failed_unit(unit.as_str()).await;
        reset.map_err(SystemdError::of("reset the failures of", unit))
    }
}

/// Whether it is systemd's own word on a unit, and not a fault of the bus (`bus-common-errors.h` of systemd).
fn is_of_systemd(error: &ErrorName<'_>) -> bool {
    error.as_str().starts_with("org.freedesktop.systemd1.")
}
