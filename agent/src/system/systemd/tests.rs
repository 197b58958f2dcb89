//! The adapter against a small service manager on the other end of a socket pair: real D-Bus messages, no bus.

#![expect(
    clippy::unused_self,
    clippy::needless_pass_by_value,
    reason = "a D-Bus interface is made of methods, which own what they are given"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;
use zbus::zvariant::ObjectPath;
use zbus::{Guid, ObjectServer, connection, interface};

use trilith_core::services::{Active, Limits, SSH, Unit};
use zbus::Connection;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use super::*;

const UNIT: &str = "/org/freedesktop/systemd1/unit/ssh_2eservice";

/// What systemd says of a unit that it cannot load.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum UnitError {
    #[zbus(error)]
    ZBus(zbus::Error),
    UnitMasked(String),
}

/// The manager: one unit is installed.
struct FakeManager {
    /// How reloads end.
    reload: &'static str,
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl FakeManager {
    fn subscribe(&self) {}

    fn load_unit(&self, name: &str) -> zbus::fdo::Result<OwnedObjectPath> {
        match name {
            "secret.service" => Err(zbus::fdo::Error::AccessDenied(format!("{name} is denied"))),
            "ssh.service" => Ok(ObjectPath::from_static_str_unchecked(UNIT).into()),
            _ => Ok(ObjectPath::from_static_str_unchecked("/other").into()),
        }
    }

    fn ref_unit(&self, name: &str) -> Result<(), UnitError> {
        match name {
            "masked.service" => Err(UnitError::UnitMasked(format!("Unit {name} is masked."))),
            _ => Ok(()),
        }
    }

    async fn list_units_by_names(
        &self,
        names: Vec<String>,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> zbus::fdo::Result<Vec<Listed>> {
        let unit = server.interface::<_, FakeUnit>(UNIT).await?;
        let active = unit.get().await.active.clone();
        Ok(names.into_iter().map(|name| listed(name, &active)).collect())
    }

    fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<Listed> {
        assert!(states.is_empty() && patterns.iter().all(|pattern| pattern.contains("@*.")));
        Vec::new()
    }

    async fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: Vec<(String, OwnedValue)>,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> zbus::fdo::Result<()> {
        assert_eq!((name, runtime), ("ssh.service", true));
        let service = server.interface::<_, FakeService>(UNIT).await?;
        let mut service = service.get_mut().await;
        for (name, value) in properties {
            match name.as_str() {
                "MemoryMax" => service.memory_max = value.try_into().unwrap(),
                "AllowedCPUs" => service.allowed_cpus = value.try_into().unwrap(),
                _ => panic!("{name}"),
            }
        }
        Ok(())
    }

    async fn reset_failed_unit(
        &self,
        name: &str,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> zbus::fdo::Result<()> {
        assert_eq!(name, "ssh.service");
        server.interface::<_, FakeService>(UNIT).await?.get_mut().await.restarts = 0;
        Ok(())
    }

    async fn restart_unit(
        &self,
        name: &str,
        mode: &str,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        become_(server, (name, mode), "active").await
    }

    /// Another unit's job ends first.
    async fn reload_unit(
        &self,
        name: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        assert_eq!((name, mode), ("ssh.service", "replace"));
        let other = ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1/job/6");
        let job = ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1/job/7");
        Self::job_removed(&emitter, 6, other, "a.service", "failed").await?;
        Self::job_removed(&emitter, 7, job.clone(), name, self.reload).await?;
        Ok(job.into())
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;

    async fn start_unit(
        &self,
        name: &str,
        mode: &str,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        become_(server, (name, mode), "active").await
    }

    async fn stop_unit(
        &self,
        name: &str,
        mode: &str,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        become_(server, (name, mode), "inactive").await
    }
}

/// Puts the unit into a state at once, and tells of it.
async fn become_(
    server: &ObjectServer,
    asked: (&str, &str),
    state: &str,
) -> zbus::fdo::Result<OwnedObjectPath> {
    assert_eq!(asked, ("ssh.service", "fail"));
    let unit = server.interface::<_, FakeUnit>(UNIT).await?;
    unit.get_mut().await.active = state.into();
    unit.get().await.active_state_changed(unit.signal_emitter()).await?;
    Ok(ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1/job/1").into())
}

struct FakeUnit {
    active: String,
}

type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

fn listed(name: String, active: &str) -> Listed {
    let path = |path| ObjectPath::from_static_str_unchecked(path).into();
    let (load, active, object) = match name.as_str() {
        "ssh.service" => ("loaded", active, UNIT),
        "masked.service" => ("masked", "inactive", "/other"),
        _ => ("not-found", "inactive", "/other"),
    };
    let [load, active, other] = [load, active, ""].map(str::to_owned);
    let (sub, kind) = (other.clone(), other.clone());
    (name, other.clone(), load, active, sub, other, path(object), 0, kind, path("/"))
}

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl FakeUnit {
    #[zbus(property)]
    fn active_state(&self) -> &str {
        &self.active
    }
}

#[derive(Default)]
struct FakeService {
    restarts: u32,
    memory_max: u64,
    allowed_cpus: Vec<u8>,
}

#[interface(name = "org.freedesktop.systemd1.Service")]
impl FakeService {
    #[zbus(property)]
    fn result(&self) -> String {
        "success".into()
    }

    #[zbus(property, name = "NRestarts")]
    fn restarts(&self) -> u32 {
        self.restarts
    }

    #[zbus(property)]
    fn memory_max(&self) -> u64 {
        self.memory_max
    }

    #[zbus(property, name = "AllowedCPUs")]
    fn allowed_cpus(&self) -> Vec<u8> {
        self.allowed_cpus.clone()
    }
}

/// The adapter's bus and the manager's end of it.
async fn pair() -> (Bus, Connection) {
    pair_with(FakeManager { reload: "done" }, FakeService::default()).await
}

async fn pair_with(manager: FakeManager, service: FakeService) -> (Bus, Connection) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = connection::Builder::unix_stream(theirs)
        .server(Guid::generate())
        .unwrap()
        .p2p()
        .serve_at("/org/freedesktop/systemd1", manager)
        .unwrap()
        .serve_at(UNIT, FakeUnit { active: "inactive".into() })
        .unwrap()
        .serve_at(UNIT, service)
        .unwrap();
    let client = connection::Builder::unix_stream(ours).p2p();
    let (server, client) = tokio::try_join!(server.build(), client.build()).unwrap();
    (Bus::new(client).await.unwrap(), server)
}

fn wishes(units: &[&str]) -> BTreeMap<UnitName, UnitWish> {
    let units = units.iter().map(|name| UnitName::try_from((*name).to_owned()).unwrap());
    units.map(|name| (name, UnitWish::default())).collect()
}

async fn active(bus: &mut Bus) -> Active {
    bus.look(&wishes(&["ssh.service"])).await.unwrap()[&SSH].active
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), what).await.expect("it never came")
}

#[tokio::test]
async fn starts_stops_and_hears_of_changes() {
    let (bus, server) = pair().await;
    let mut systemd = Systemd { bus: Some(bus), files: Watched::default() };
    assert_eq!(active(systemd.bus.as_mut().unwrap()).await, Active::Inactive);

    systemd.carry_out(&Step::Start(SSH)).await.unwrap();
    soon(systemd.changed()).await;
    assert_eq!(active(systemd.bus.as_mut().unwrap()).await, Active::Active);
    systemd.carry_out(&Step::Stop(SSH)).await.unwrap();
    soon(systemd.changed()).await;
    assert_eq!(active(systemd.bus.as_mut().unwrap()).await, Active::Inactive);

    // Behind the back, and in a state that a newer systemd may have.
    let unit = server.object_server().interface::<_, FakeUnit>(UNIT).await.unwrap();
    unit.get_mut().await.active = "hibernating".into();
    unit.get().await.active_state_changed(unit.signal_emitter()).await.unwrap();
    soon(systemd.changed()).await;
    assert_eq!(active(systemd.bus.as_mut().unwrap()).await, Active::Other);
}

async fn ssh(bus: &mut Bus, limits: &Limits) -> Unit {
    let wish = UnitWish::default().limited(limits.clone());
    bus.look(&BTreeMap::from([(SSH, wish)])).await.unwrap().remove(&SSH).unwrap()
}

#[tokio::test]
async fn a_reload_has_a_result() {
    let (bus, _server) = pair().await;
    soon(bus.reload(&SSH)).await.unwrap();
    let manager = FakeManager { reload: "failed" };
    let (bus, _server) = pair_with(manager, FakeService::default()).await;
    let error = soon(bus.reload(&SSH)).await.unwrap_err();
    assert_eq!(error.to_string(), "unit ssh.service did not reload: failed");
}

#[tokio::test]
async fn restarts_are_counted_and_forgiven() {
    let service = FakeService { restarts: 2, ..FakeService::default() };
    let (mut bus, server) = pair_with(FakeManager { reload: "done" }, service).await;
    let unit = server.object_server().interface::<_, FakeUnit>(UNIT).await.unwrap();
    unit.get_mut().await.active = "activating".into();
    assert_eq!(ssh(&mut bus, &Limits::default()).await.restarts, 2);
    bus.forgive(&SSH).await.unwrap();
    assert_eq!(ssh(&mut bus, &Limits::default()).await.restarts, 0);
}

#[tokio::test]
async fn limits_are_set_and_seen() {
    let (mut bus, _server) = pair().await;
    let limits = Limits {
        memory_max: Some(1 << 30),
        allowed_cpus: Some(BTreeSet::from([0, 9])),
        ..Limits::default()
    };
    assert_ne!(ssh(&mut bus, &limits).await.limits, limits);
    bus.limit(&SSH, &limits).await.unwrap();
    assert_eq!(ssh(&mut bus, &limits).await.limits, limits);
    assert_eq!(ssh(&mut bus, &Limits::default()).await.limits, Limits::default());
}

#[tokio::test]
async fn hears_nothing_while_nothing_changes() {
    let (mut bus, _server) = pair().await;
    active(&mut bus).await;
    let mut systemd = Systemd { bus: Some(bus), files: Watched::default() };
    assert!(timeout(Duration::from_millis(50), systemd.changed()).await.is_err());
}

#[tokio::test]
async fn a_unit_that_cannot_be_asked_for_is_an_error_with_its_name() {
    let (mut bus, _server) = pair().await;
    let error = bus.look(&wishes(&["secret.service"])).await.unwrap_err();
    assert_eq!(
        chain(&error).to_string(),
        "cannot look at unit secret.service: org.freedesktop.DBus.Error.AccessDenied: secret.service is denied"
    );
}

#[tokio::test]
async fn a_masked_unit_does_not_hide_the_others() {
    let (mut bus, _server) = pair().await;
    let units = bus.look(&wishes(&["masked.service", "ssh.service"])).await.unwrap();
    let load = |name: &str| units[&UnitName::try_from(name.to_owned()).unwrap()].load.as_str();
    assert_eq!((load("masked.service"), load("ssh.service")), ("masked", "loaded"));
}

#[tokio::test]
async fn a_lost_connection_is_an_event_and_the_next_look_makes_another() {
    let (mut bus, server) = pair().await;
    active(&mut bus).await;
    let mut systemd = Systemd { bus: Some(bus), files: Watched::default() };
    server.close().await.unwrap();
    soon(systemd.changed()).await;
    let looked = soon(systemd.units(&wishes(&["ssh.service"]))).await;
    assert!(looked.is_err() && systemd.bus.is_none());
}

#[tokio::test]
async fn a_start_without_a_bus_is_an_error() {
    let error = Systemd::new().carry_out(&Step::Start(SSH)).await.unwrap_err();
    assert_eq!(error.to_string(), "the system bus is not there");
}
