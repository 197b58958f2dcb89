//! The adapter against a small service manager on the other end of a socket pair: real D-Bus messages, no bus.

#![expect(clippy::unused_self, reason = "a D-Bus interface is made of methods")]

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;
use zbus::zvariant::ObjectPath;
use zbus::{Guid, ObjectServer, connection, interface};

use trilith_core::services::{Active, SSH};
use zbus::Connection;
use zbus::zvariant::OwnedObjectPath;

use super::*;

const UNIT: &str = "/org/freedesktop/systemd1/unit/ssh_2eservice";

/// The manager: it knows one unit.
struct FakeManager;

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl FakeManager {
    fn subscribe(&self) {}

    fn load_unit(&self, name: &str) -> zbus::fdo::Result<OwnedObjectPath> {
        match name {
            "ssh.service" => Ok(ObjectPath::from_static_str_unchecked(UNIT).into()),
            _ => Err(zbus::fdo::Error::FileNotFound(format!("no unit {name}"))),
        }
    }

    async fn list_units_by_names(
        &self,
        names: Vec<String>,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> zbus::fdo::Result<Vec<Listed>> {
        assert_eq!(names, ["ssh.service"]);
        let unit = server.interface::<_, FakeUnit>(UNIT).await?;
        let active = unit.get().await.active.clone();
        let path = ObjectPath::from_static_str_unchecked(UNIT).into();
        let text = |text: &str| text.to_owned();
        Ok(vec![(
            text("ssh.service"),
            text("SSH"),
            text("loaded"),
            active,
            text("sub"),
            text(""),
            path,
            0,
            text(""),
            no_job(),
        )])
    }

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

fn no_job() -> OwnedObjectPath {
    ObjectPath::from_static_str_unchecked("/").into()
}

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl FakeUnit {
    #[zbus(property)]
    fn active_state(&self) -> &str {
        &self.active
    }
}

struct FakeService;

#[interface(name = "org.freedesktop.systemd1.Service")]
impl FakeService {
    #[zbus(property)]
    fn result(&self) -> String {
        "success".into()
    }

    #[zbus(property, name = "NRestarts")]
    fn restarts(&self) -> u32 {
        0
    }
}

/// The adapter's bus and the manager's end of it.
async fn pair() -> (Bus, Connection) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = connection::Builder::unix_stream(theirs)
        .server(Guid::generate())
        .unwrap()
        .p2p()
        .serve_at("/org/freedesktop/systemd1", FakeManager)
        .unwrap()
        .serve_at(UNIT, FakeUnit { active: "inactive".into() })
        .unwrap()
        .serve_at(UNIT, FakeService)
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
    let mut systemd = Systemd { bus: Some(bus), files: None };
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

#[tokio::test]
async fn hears_nothing_while_nothing_changes() {
    let (mut bus, _server) = pair().await;
    active(&mut bus).await;
    let mut systemd = Systemd { bus: Some(bus), files: None };
    assert!(timeout(Duration::from_millis(50), systemd.changed()).await.is_err());
}

#[tokio::test]
async fn an_unknown_unit_is_an_error_with_its_name() {
    let (mut bus, _server) = pair().await;
    let error = bus.look(&wishes(&["nothing.service"])).await.unwrap_err();
    assert_eq!(
        chain(&error).to_string(),
        "cannot look at unit nothing.service: org.freedesktop.DBus.Error.FileNotFound: no unit nothing.service"
    );
}

#[tokio::test]
async fn a_lost_connection_is_an_event_and_the_next_look_makes_another() {
    let (mut bus, server) = pair().await;
    active(&mut bus).await;
    let mut systemd = Systemd { bus: Some(bus), files: None };
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
