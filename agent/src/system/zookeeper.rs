//! The ZooKeeper adapter: the data directory, the permission to start, and the server on this node.
//!
//! The server is asked by `srvr` over TLS. A server without quorum lets nobody in: it closes a connection before
//! the TLS handshake, and those that stand when it loses its quorum (`NettyServerCnxnFactory`). So one idle
//! connection tells at once when the quorum is lost.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_rustls::client::TlsStream;
use trilith_core::names::NodeId;
use trilith_core::quorum::{self, Others};
use trilith_core::subject::Subject as _;
use trilith_core::zookeeper::{
    DIRECTORY, Desired, Directory, Observed, PERMIT, Server, Step, ZooKeeper,
};

use super::files::{self, FileError, Ids, Watched};
use super::turns::Turns;
use crate::peers::{Dialer, Views, ends, witnesses};
use crate::reconcile::{Host, HostError};
use crate::wake;

mod ask; // `srvr`
#[cfg(test)]
mod tests;

/// The server's user and group.
const USER: &str = "zookeeper";

/// How long a server that has just accepted a leader is waited for: it serves some milliseconds later, and tells
/// nobody.
const SETTLES: Duration = Duration::from_secs(3);
/// The space between two tries in that time.
const TRY: Duration = Duration::from_millis(50);

/// How often a server that may run and does not serve is asked: it tells nobody when it is in a quorum again, if that
/// has the same epoch.
const AGAIN: Duration = Duration::from_secs(5);

/// Where things are.
struct Places {
    directory: PathBuf,
    permit: PathBuf,
    turns: Turns,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ZooKeeperError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot remove the folder {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

/// The host's ZooKeeper.
pub(crate) struct Ensemble {
    places: Places,
    views: watch::Receiver<Views>,
    dialer: watch::Receiver<Option<Dialer>>,
    files: Watched,
    /// The epoch that the last look saw.
    epoch: Option<i64>,
    /// A connection to the serving server, which ends with its quorum.
    standing: Option<TlsStream<TcpStream>>,
    /// When it looks again; never at a server that serves.
    again: Option<Instant>,
    requests: u64,
}

impl Ensemble {
    /// Looks at nothing yet. `dialer` makes connections to members.
    pub(crate) fn new(
        views: watch::Receiver<Views>,
        dialer: watch::Receiver<Option<Dialer>>,
    ) -> Self {
        let turns = Turns::of(ZooKeeper::NAME, Some("zookeeper."));
        let places = Places { directory: DIRECTORY.into(), permit: PERMIT.into(), turns };
        let files = Watched::default();
        Self { places, views, dialer, files, epoch: None, standing: None, again: None, requests: 0 }
    }

    /// What the server on this node says, and how far its leader is.
    async fn server(&mut self, desired: &Desired, others: &Others, settles: bool) -> Server {
        let Some(dialer) = self.dialer.borrow_and_update().clone() else {
            return Server::Away("this node's certificate is not known yet".into());
        };
        let until = Instant::now() + SETTLES;
        let mut server = self.ask(&dialer, desired.node).await;
        while settles && !matches!(server, Server::Serving { .. }) && Instant::now() < until {
            sleep(TRY).await;
            server = self.ask(&dialer, desired.node).await;
        }
        if let Server::Serving { role, leader, .. } = &mut server {
            if self.standing.is_none() {
                self.standing = ask::connect(&dialer, desired.node).await.ok();
            }
            if role == "follower"
                && let Some(node) = quorum::leader(others)
                && let Server::Serving { zxid, .. } = self.ask(&dialer, node).await
            {
                *leader = Some(zxid);
            }
        } else {
            self.standing = None;
        }
        server
    }

    async fn ask(&mut self, dialer: &Dialer, node: NodeId) -> Server {
        self.requests = self.requests.saturating_add(1);
        ask::server(dialer, node).await
    }

    async fn look(&mut self, desired: &Desired) -> Result<Observed, ZooKeeperError> {
        self.files.on(self.places.watched())?;
        let members = desired.members.keys().filter(|id| **id != desired.node);
        let others = witnesses(&self.views.borrow_and_update(), members, ZooKeeper::NAME);
        let directory = self.places.look()?;
        let permit = self.places.permit.exists();
        // Before the server is asked: if the mark is gone, it is the new process that answers.
        let turn = self.places.turns.look()?;
        let elected =
            directory.epoch != self.epoch && directory.epoch.is_some_and(|epoch| epoch > 0);
        self.epoch = directory.epoch;
        let server = if desired.members.contains_key(&desired.node) {
            self.server(desired, &others, elected && permit).await
        } else {
            Server::Away("this node is no coordinator".into())
        };
        let waits = permit && !matches!(server, Server::Serving { .. });
        self.again = waits.then(|| Instant::now() + AGAIN);
        Ok(Observed { directory, permit, server, turn, others })
    }
}

impl Places {
    /// What tells by its coming and going that something has changed.
    fn watched(&self) -> impl Iterator<Item = PathBuf> {
        let names = ["cluster", "myid", "initialize", "version-2", "version-2/currentEpoch"];
        let paths = names.into_iter().map(|name| self.directory.join(name));
        paths.chain(self.turns.paths()).chain([self.permit.clone()])
    }

    /// What is in the data directory.
    fn look(&self) -> Result<Directory, ZooKeeperError> {
        let text = |name: &str| {
            let found = files::read(&self.directory.join(name))?;
            Ok::<_, FileError>(found.map(|found| found.text.trim().to_owned()))
        };
        let epoch = text("version-2/currentEpoch")?;
        Ok(Directory {
            cluster: text("cluster")?,
            myid: text("myid")?,
            initialize: self.directory.join("initialize").exists(),
            epoch: epoch.and_then(|epoch| epoch.parse().ok()),
            files: database(&self.directory.join("version-2"))?,
        })
    }

    fn carry_out(&self, step: &Step) -> Result<(), ZooKeeperError> {
        let own = |name: &str| self.directory.join(name);
        match step {
            Step::Forbid => files::remove(&self.permit)?,
            Step::Clear => {
                let path = own("version-2");
                std::fs::remove_dir_all(&path)
                    .map_err(|source| ZooKeeperError::Remove { path, source })?;
            }
            Step::Uninitialize => files::remove(&own("initialize"))?,
            Step::Mark(cluster) => {
                // The server writes there, and removes `initialize`.
                if !self.directory.exists() {
                    files::make_folder(&self.directory, 0o750, Ids::named(USER, USER)?)?;
                }
                files::publish(&own("cluster"), &format!("{cluster}\n"))?;
            }
            Step::Initialize => files::publish(&own("initialize"), "")?,
            Step::Number(id) => files::publish(&own("myid"), &format!("{id}\n"))?,
            Step::Permit => {
                files::publish(&self.permit, "")?;
            }
            Step::Turn(step) => self.turns.carry_out(step)?,
        }
        Ok(())
    }
}

/// The snapshots and logs in a folder; a folder that is missing has none.
fn database(path: &Path) -> Result<BTreeSet<String>, FileError> {
    let names = files::list(path)?.into_iter().map(|(name, _)| name);
    Ok(names.filter(|name| name.starts_with("snapshot.") || name.starts_with("log.")).collect())
}

impl Host<ZooKeeper> for Ensemble {
    async fn observe(&mut self, desired: &Desired) -> Result<Observed, HostError> {
        Ok(self.look(desired).await?)
    }

    async fn apply(&mut self, step: &Step) -> Result<(), HostError> {
        Ok(self.places.carry_out(step)?)
    }

    async fn changed(&mut self) {
        // Cancel safety: all of them say of themselves that they are; the connection stays closed once it is, and the
        // moment does not move.
        tokio::select! {
            () = self.files.changed() => {}
            () = wake::changed(&mut self.views) => {}
            () = wake::changed(&mut self.dialer) => {}
            () = ends(&mut self.standing) => self.standing = None,
            () = wake::at(self.again) => {}
        }
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}
