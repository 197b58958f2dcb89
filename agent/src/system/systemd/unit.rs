//! One unit as systemd shows it.

use nix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use trilith_core::services::{Active, Limits, Unit, UnitName};
use zbus::Connection;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Type};

use super::{journal, limits};

/// A unit in one of the manager's lists (org.freedesktop.systemd1(5)).
#[derive(Deserialize, Type)]
pub(super) struct Listed {
    pub(super) name: String,
    _description: String,
    load: String,
    active: String,
    _sub: String,
    _followed: String,
    path: OwnedObjectPath,
    job: u32,
    _job_type: String,
    _job_path: OwnedObjectPath,
}

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const SLICE: &str = "org.freedesktop.systemd1.Slice";

/// The few properties that count. `wanted` names the resource controls that are worth a question.
pub(super) async fn look(
    connection: &Connection,
    name: &UnitName,
    listed: &Listed,
    wanted: &Limits,
) -> zbus::Result<Unit> {
    let mut unit = Unit {
        load: listed.load.clone(),
        active: parse_active(&listed.active),
        job: listed.job != 0,
        result: String::new(),
        runs_for: 0,
        restarts: 0,
        since: None,
        lines: Vec::new(),
        limits: Limits::default(),
    };
    let object = Object { connection, path: &listed.path };
    if unit.load == "loaded" && name.kind() == "slice" {
        unit.limits = limits::observe(&object, SLICE, wanted).await?;
    }
    if unit.load != "loaded" || name.kind() != "service" {
        return Ok(unit);
    }
    match unit.active {
        Active::Active | Active::Reloading => {
            unit.restarts = object.of_service("NRestarts").await?;
        }
        Active::Activating | Active::Failed => {
            let (result, restarts) = (object.of_service("Result"), object.of_service("NRestarts"));
            (unit.result, unit.restarts) = tokio::try_join!(result, restarts)?;
        }
        // Of a unit that rests there is nothing to ask.
        Active::Inactive | Active::Deactivating | Active::Other => {}
    }
    if unit.restarts > 0 && unit.active == Active::Active {
        unit.runs_for = seconds_since(object.get(UNIT, "ActiveEnterTimestampMonotonic").await?);
    }
    unit.limits = limits::observe(&object, SERVICE, wanted).await?;
    if unit.is_troubled() {
        let first = journal::first_restart(name, unit.restarts);
        (unit.lines, unit.since) = tokio::join!(journal::last_lines(name), first);
    }
    Ok(unit)
}

/// A unit's object on the bus.
pub(super) struct Object<'a> {
    connection: &'a Connection,
    path: &'a OwnedObjectPath,
}

impl Object<'_> {
    /// A property of the object, as it is now.
    pub(super) async fn get<T>(&self, interface: &str, property: &str) -> zbus::Result<T>
    where
        T: TryFrom<OwnedValue>,
        T::Error: Into<zbus::Error>,
    {
        let about = (interface, property);
        let (peer, get) = ("org.freedesktop.systemd1", "org.freedesktop.DBus.Properties");
        let reply = self.connection.call_method(Some(peer), self.path, Some(get), "Get", &about);
        let value: OwnedValue = reply.await?.body().deserialize()?;
        T::try_from(value).map_err(Into::into)
    }

    /// A property of what a service is.
    pub(super) async fn of_service<T>(&self, property: &str) -> zbus::Result<T>
    where
        T: TryFrom<OwnedValue>,
        T::Error: Into<zbus::Error>,
    {
        self.get(SERVICE, property).await
    }
}

/// Whole seconds since a moment of the monotonic clock, in microseconds as systemd has it.
fn seconds_since(moment: u64) -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec());
    u64::try_from(now).unwrap_or(0).saturating_sub(moment.div_ceil(1_000_000))
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
