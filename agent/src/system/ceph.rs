//! The Ceph adapter: the monitor's store, the permissions to start, and the monitor on this node.
//!
//! The monitor is asked over its admin socket, in JSON: it answers also without quorum, and nothing of Ceph's
//! libraries, some 24 MiB of memory, is needed for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use trilith_core::ceph::{
    Ceph, Desired, MANAGER_PERMIT, MONITOR_PERMIT, MONITORS, Monitor, Observed, Step, Store, answer,
};
use trilith_core::osds::ACTIVE;
use trilith_core::quorum::Others;
use trilith_core::subject::Subject as _;
use trilith_core::turns::Seen;

use super::admin_socket;
use super::files::{self, FileError, Watched};
use super::rados;
use super::turns::Turns;
use crate::peers::{Views, witnesses};
use crate::reconcile::{Host, HostError, chain};
use crate::wake;

#[cfg(test)]
mod tests;

/// By whose key Ceph is asked whether OSDs may stop: every node has it.
const USER: &str = "trilith";

/// How often the monitor is asked when nothing is known to have changed: one that loses its quorum tells nobody on
/// this node. It costs a few KiB over a socket.
const AGAIN: Duration = Duration::from_secs(5);

/// Where things are.
struct Places {
    monitors: PathBuf,
    monitor_permit: PathBuf,
    manager_permit: PathBuf,
    sockets: PathBuf,
    turns: Turns,
    /// The OSDs that are activated.
    osds: PathBuf,
}

/// The host's monitor.
pub(crate) struct Monitors {
    places: Places,
    views: watch::Receiver<Views>,
    files: Watched,
    /// When it looks again; never on a node without a monitor.
    again: Option<Instant>,
    requests: u64,
}

impl Monitors {
    /// Looks at nothing yet.
    pub(crate) fn new(views: watch::Receiver<Views>) -> Self {
        let places = Places {
            monitors: MONITORS.into(),
            monitor_permit: MONITOR_PERMIT.into(),
            manager_permit: MANAGER_PERMIT.into(),
            sockets: admin_socket::FOLDER.into(),
            turns: Turns::of(Ceph::NAME, Some("ceph-")),
            osds: ACTIVE.into(),
        };
        Self { places, views, files: Watched::default(), again: None, requests: 0 }
    }

    async fn look(&mut self, desired: &Desired) -> Result<Observed, FileError> {
        self.files.on(self.places.watched(desired))?;
        let members = desired.members.keys().filter(|id| **id != desired.node);
        let others: Others = witnesses(&self.views.borrow_and_update(), members, Ceph::NAME);
        // Before the monitor is asked: if the marks are gone, it is the new process that answers.
        let turn = self.places.turns.look()?;
        let monitor = match self.places.socket(desired) {
            Some(socket) => self.ask(&socket).await,
            None => Monitor::Away("this node has none".into()),
        };
        let objection = self.objection(desired, &turn, &monitor).await?;
        self.again = self.places.socket(desired).map(|_| Instant::now() + AGAIN);
        Ok(Observed {
            stores: self.places.stores()?,
            monitor_permit: files::read(&self.places.monitor_permit)?.map(|found| found.text),
            manager_permit: self.places.manager_permit.exists(),
            monitor,
            turn,
            objection,
            others,
        })
    }

    async fn ask(&mut self, socket: &Path) -> Monitor {
        self.requests = self.requests.saturating_add(1);
        match admin_socket::ask(socket, "mon_status").await {
            Ok(json) => answer::parse(&json),
            Err(error) => Monitor::Away(chain(&error).to_string()),
        }
    }

    /// Why the node's OSDs may not stop, if nothing else keeps it from restarting them.
    async fn objection(
        &mut self,
        desired: &Desired,
        turn: &Seen,
        monitor: &Monitor,
    ) -> Result<Option<String>, FileError> {
        let elected = turn.stand.vote.is_some_and(|vote| vote.node == desired.node);
        // A coordinator whose own monitor is in no quorum may be one of many: nobody could answer.
        let coordinates = desired.members.contains_key(&desired.node);
        let next = !coordinates || (elected && monitor.role().is_some());
        let osds = self.places.osds()?;
        if !turn.due || turn.stand.holds || !next || osds.is_empty() {
            return Ok(None);
        }
        self.requests = self.requests.saturating_add(1);
        Ok(rados::objection(USER, &osds).await)
    }
}

impl Places {
    /// The numbers of the OSDs that are activated.
    fn osds(&self) -> Result<Vec<String>, FileError> {
        let folders = files::list(&self.osds)?.into_iter();
        Ok(folders.filter_map(|(name, _)| Some(name.strip_prefix("ceph-")?.to_owned())).collect())
    }

    /// What tells by its coming and going that something has changed.
    fn watched(&self, desired: &Desired) -> Vec<PathBuf> {
        let mut paths = vec![self.monitor_permit.clone(), self.manager_permit.clone()];
        if let Some(name) = desired.members.get(&desired.node) {
            let store = self.store(name.as_str());
            paths.extend([store.join("cluster"), store.join("quorum"), store]);
        }
        paths.extend(self.socket(desired));
        paths.extend(self.turns.paths());
        paths
    }

    fn store(&self, name: &str) -> PathBuf {
        self.monitors.join(format!("ceph-{name}"))
    }

    fn socket(&self, desired: &Desired) -> Option<PathBuf> {
        let name = desired.members.get(&desired.node)?;
        Some(self.sockets.join(format!("ceph-mon.{name}.asok")))
    }

    fn stores(&self) -> Result<BTreeMap<String, Store>, FileError> {
        let folders = files::list(&self.monitors)?.into_iter().filter(|(_, is_folder)| *is_folder);
        let mut stores = BTreeMap::new();
        for (folder, _) in folders {
            let Some(name) = folder.strip_prefix("ceph-") else { continue };
            let store = self.monitors.join(&folder);
            let cluster = files::read(&store.join("cluster"))?;
            let cluster = cluster.map(|found| found.text.trim().to_owned());
            let quorum = store.join("quorum").exists();
            stores.insert(name.to_owned(), Store { cluster, quorum });
        }
        Ok(stores)
    }

    fn carry_out(&self, step: &Step) -> Result<(), FileError> {
        match step {
            Step::Forbid => {
                files::remove(&self.monitor_permit)?;
                files::remove(&self.manager_permit)
            }
            Step::PermitMonitor(text) => files::publish(&self.monitor_permit, text),
            Step::Turn(step) => self.turns.carry_out(step),
            Step::PermitManager => files::publish(&self.manager_permit, ""),
            Step::Settle(name) => files::publish(&self.store(name.as_str()).join("quorum"), ""),
        }
    }
}

impl Host<Ceph> for Monitors {
    async fn observe(&mut self, desired: &Desired) -> Result<Observed, HostError> {
        Ok(self.look(desired).await?)
    }

    async fn apply(&mut self, step: &Step) -> Result<(), HostError> {
        Ok(self.places.carry_out(step)?)
    }

    async fn changed(&mut self) {
        // Cancel safety: all of them say of themselves that they are, and the moment does not move.
        tokio::select! {
            () = self.files.changed() => {}
            () = wake::changed(&mut self.views) => {}
            () = wake::at(self.again) => {}
        }
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}
