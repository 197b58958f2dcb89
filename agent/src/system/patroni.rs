//! The Patroni adapter: its REST API on this node, the leader's for the distance to it, and this node's turn to restart
//! Postgres.
//!
//! Patroni tells nobody of its changes: it is asked anew at a calm interval, and at once when its process ends (one
//! connection stands idle for that) or another coordinator says something else of its own. In the steady state that is
//! two questions in [`PERIOD`] on each coordinator, and none of them makes Patroni ask ZooKeeper.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use trilith_core::names::NodeId;
use trilith_core::patroni::{
    Answer, Behind, Change, Desired, Observed, PERMIT, PORT, Patroni, Server, Step,
};
use trilith_core::quorum::{self, Others, Witness};
use trilith_core::status::NodeStatus;
use trilith_core::subject::Subject as _;
use trilith_core::zookeeper::ZooKeeper;

use super::files::{self, Watched};
use super::turns::Turns;
use crate::peers::http::{self, AskError};
use crate::peers::{Dialer, Views, ends, witnesses};
use crate::reconcile::{Host, HostError, chain};
use crate::wake;

mod accounts; // the passwords in the database

use accounts::Accounts;

/// How often Patroni is asked when nothing else brings a look. It looks at its own things every `loop_wait`, 10 s if
/// the cluster file says nothing.
const PERIOD: Duration = Duration::from_secs(10);

/// How long an answer may take. Patroni asks Postgres for it.
const LIMIT: Duration = Duration::from_secs(5);
/// How long Postgres may take to restart, less than a call of an adapter may.
const RESTART_LIMIT: Duration = Duration::from_secs(25);

/// What failed.
#[derive(Debug, thiserror::Error)]
enum PatroniError {
    #[error("this node's certificate is not known yet")]
    NoCertificate,
    #[error("Patroni: {0}")]
    Ask(#[from] AskError),
    #[error("the request is malformed")]
    Request(#[from] axum::http::Error),
}

/// This node's part of the database cluster.
pub(crate) struct Database {
    views: watch::Receiver<Views>,
    dialer: watch::Receiver<Option<Dialer>>,
    turns: Turns,
    accounts: Accounts,
    files: Watched,
    /// What this node says of itself.
    status: watch::Receiver<NodeStatus>,
    /// Whether its ZooKeeper was in a quorum at the last look.
    keeper: bool,
    /// This node and the other coordinators, at the last look.
    circle: Option<(NodeId, Vec<NodeId>)>,
    /// What was heard of them.
    heard: Heard,
    /// A connection to Patroni, which ends with its process.
    standing: Option<TlsStream<TcpStream>>,
    /// When Patroni is asked again.
    due: Option<Instant>,
    requests: u64,
}

impl Database {
    /// Looks at nothing yet.
    pub(crate) fn new(
        views: watch::Receiver<Views>,
        dialer: watch::Receiver<Option<Dialer>>,
        status: watch::Receiver<NodeStatus>,
    ) -> Self {
        let turns = Turns::of(Patroni::NAME, None);
        let (accounts, files) = (Accounts::default(), Watched::default());
        let (circle, heard) = (None, Heard::default());
        let (standing, due, requests) = (None, None, 0);
        Self {
            views,
            dialer,
            turns,
            accounts,
            files,
            status,
            keeper: false,
            circle,
            heard,
            standing,
            due,
            requests,
        }
    }

    async fn look(&mut self, desired: &Desired) -> Result<Observed, HostError> {
        self.files.on(self.turns.paths())?;
        let me = desired.node;
        let nodes: Vec<_> = desired.members.keys().copied().filter(|id| *id != me).collect();
        self.keeper = keeps(&self.status.borrow_and_update());
        self.heard = Heard::of(&self.views.borrow_and_update(), &nodes);
        self.circle = Some((me, nodes));
        let Heard { others, keeper } = self.heard.clone();
        let keeper = keeper || self.keeper;
        let turn = self.turns.look()?;
        let server = if desired.members.contains_key(&me) {
            self.server(desired, &others).await
        } else {
            Server::Away("this node is no coordinator".into())
        };
        let (stale, unasked) = match self.accounts.stale(desired, &server).await {
            Ok(stale) => (stale, None),
            Err(error) => (BTreeSet::new(), Some(chain(&error).to_string())),
        };
        self.due = desired.members.contains_key(&me).then(|| Instant::now() + PERIOD);
        let permit = Path::new(PERMIT).exists();
        Ok(Observed { server, stale, unasked, keeper, permit, turn, others })
    }

    /// What Patroni on this node says, and what else must be asked because of that.
    async fn server(&mut self, desired: &Desired, others: &Others) -> Server {
        let mut answer = match self.status(desired.node).await {
            Ok(answer) => answer,
            Err(error) => {
                self.standing = None;
                return Server::Away(error.to_string());
            }
        };
        self.stand(desired.node).await;
        if answer.leads() {
            answer.shared = self.shared(desired.node).await;
            if !answer.restart.is_empty() {
                answer.behind_configuration = self.behind(others, answer.shared.as_ref()).await;
            }
        } else if let Some(leader) = quorum::leader(others) {
            answer.leader = self.status(leader).await.ok().and_then(|leader| leader.position);
        }
        Server::Up(Box::new(answer))
    }

    /// Keeps a connection open.
    async fn stand(&mut self, node: NodeId) {
        let dialer = self.dialer.borrow_and_update().clone();
        if let (None, Some(dialer)) = (&self.standing, dialer) {
            self.standing = dialer.dial(node, PORT).await.ok();
        }
    }

    /// The members that have not taken notice of this configuration yet, or wait for their own restart.
    async fn behind(&mut self, others: &Others, shared: Option<&Value>) -> Behind {
        let mut behind = Behind::new();
        for node in others.keys().copied() {
            let aware = self.shared(node).await;
            let waits = self.status(node).await.is_ok_and(|answer| {
                answer.restart.values().any(|change| *change != Change::Shrinks)
            });
            // One that does not answer does not agree to a restart either.
            if aware.as_ref() != shared || waits {
                behind.insert(node);
            }
        }
        behind
    }

    async fn status(&mut self, node: NodeId) -> Result<Answer, PatroniError> {
        let text = self.ask(node, (Method::GET, "/patroni"), Body::empty(), LIMIT).await?;
        Ok(Answer::parse(&text).unwrap_or_else(|| Answer {
            state: "in a state that is not understood".into(),
            ..Answer::default()
        }))
    }

    async fn shared(&mut self, node: NodeId) -> Option<Value> {
        let text = self.ask(node, (Method::GET, "/config"), Body::empty(), LIMIT).await.ok()?;
        serde_json::from_str(&text).ok()
    }

    async fn ask(
        &mut self,
        node: NodeId,
        (method, path): (Method, &str),
        body: Body,
        limit: Duration,
    ) -> Result<String, PatroniError> {
        let dialer = self.dialer.borrow_and_update().clone();
        let dialer = dialer.ok_or(PatroniError::NoCertificate)?;
        self.requests = self.requests.saturating_add(1);
        let request = Request::builder().method(method).uri(path).body(body)?;
        Ok(http::ask(&dialer, (node, PORT), request, limit).await?)
    }

    async fn carry_out(&mut self, step: &Step) -> Result<(), HostError> {
        let Some((me, _)) = self.circle else { return Ok(()) };
        match step {
            Step::Password(account) => self.accounts.set(*account).await?,
            Step::Permit => files::publish(Path::new(PERMIT), "")?,
            Step::Turn(step) => self.turns.carry_out(step)?,
            Step::Configure(patch) => {
                let patch = Body::from(patch.to_string());
                self.ask(me, (Method::PATCH, "/config"), patch, LIMIT).await?;
            }
            Step::Restart => {
                let only = Body::from(r#"{"restart_pending": true}"#);
                self.ask(me, (Method::POST, "/restart"), only, RESTART_LIMIT).await?;
            }
        }
        Ok(())
    }
}

/// Whether this node's ZooKeeper is in a quorum.
fn keeps(status: &NodeStatus) -> bool {
    let zookeeper = status.subjects.get(ZooKeeper::NAME);
    zookeeper.is_some_and(|zookeeper| zookeeper.details.role.is_some())
}

/// What the other coordinators say that matters here.
#[derive(Clone, Default, PartialEq)]
struct Heard {
    /// About their Patroni.
    others: Others,
    /// Whether a ZooKeeper of theirs is in a quorum.
    keeper: bool,
}

impl Heard {
    fn of(views: &Views, nodes: &[NodeId]) -> Self {
        let keeps =
            |witness: &Witness| matches!(witness, Witness::Says(details) if details.role.is_some());
        let keeper = witnesses(views, nodes.iter(), ZooKeeper::NAME).values().any(keeps);
        Self { others: witnesses(views, nodes.iter(), Patroni::NAME), keeper }
    }
}

impl Host<Patroni> for Database {
    async fn observe(&mut self, desired: &Desired) -> Result<Observed, HostError> {
        self.look(desired).await
    }

    async fn apply(&mut self, step: &Step) -> Result<(), HostError> {
        self.carry_out(step).await
    }

    async fn changed(&mut self) {
        let nodes = self.circle.as_ref().map_or(&[][..], |(_, nodes)| nodes);
        let (kept, heard) = (self.keeper, &self.heard);
        // Cancel safety: all of them say of themselves that they are; the connection stays closed once it is, and the
        // moment does not move.
        tokio::select! {
            () = self.files.changed() => {}
            () = wake::becomes(&mut self.views, |views| Heard::of(views, nodes) != *heard) => {}
            () = wake::becomes(&mut self.status, |status| keeps(status) != kept) => {}
            () = wake::changed(&mut self.dialer) => {}
            () = ends(&mut self.standing) => self.standing = None,
            () = wake::at(self.due) => {}
        }
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}
