//! Follows one node: asks for its facts, and asks again as soon as there is an answer.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ETAG, HOST, IF_NONE_MATCH};
use axum::http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use trilith_core::peers::{Facts, PORT, Peer, VERSION};
use trilith_core::status::NodeStatus;

use super::http::{self, AskError};
use super::{Board, Dialer, server, tls};

/// How long the server may wait for news before it says that there are none.
const WAIT: Duration = Duration::from_mins(1);
/// How much longer the answer may take.
const GRACE: Duration = Duration::from_secs(10);
/// The first pause after a failure.
const FIRST: Duration = Duration::from_millis(250);
/// The longest: what is lost at most after a node has come back unnoticed.
const LONGEST: Duration = Duration::from_secs(5);
/// Facts are a few KiB; more are none.
const LONGEST_ANSWER: usize = 1 << 20;

/// Why a node is not followed just now.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    Connect(#[from] AskError),
    #[error("{}", tls::explain(.0))]
    Talk(hyper::Error),
    #[error("no answer within {} s", (WAIT + GRACE).as_secs())]
    Late,
    #[error("it refuses ({code}): {text}")]
    Refused { code: StatusCode, text: String },
    #[error("its answer breaks off")]
    Body(#[source] axum::Error),
    #[error("the request is malformed")]
    Request(#[from] axum::http::Error),
    #[error("its answer is not understood: {0}")]
    Parse(#[from] serde_json::Error),
    #[error("its agent speaks version {0} of the peer API, this one {VERSION}")]
    Version(u32),
    #[error("it answers as node {node} of cluster {cluster}")]
    Stranger { node: u16, cluster: String },
}

/// The part of every answer that tells its version.
#[derive(serde::Deserialize)]
struct AnyVersion {
    version: u32,
}

/// Follows one node.
pub(super) struct Follower {
    peer: Peer,
    dialer: Dialer,
    /// This node's own status: which cluster it is of.
    own: watch::Receiver<NodeStatus>,
}

impl Follower {
    pub(super) fn new(peer: Peer, dialer: Dialer, own: watch::Receiver<NodeStatus>) -> Self {
        Self { peer, dialer, own }
    }

    /// Keeps the view of the node right until dropped. `nudge` tells that the node has just come to this one, so
    /// that it is worth a try.
    pub(super) async fn follow(self, board: Board, nudge: Arc<Notify>) {
        let mut pause = FIRST;
        loop {
            let mut answered = false;
            let error = match self.session(&board, &mut answered).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            board.set(self.peer.id, Err(error.to_string()));
            pause = if answered { FIRST } else { LONGEST.min(pause * 2) };
            // Cancel safety: both only wait, and a nudge that is lost costs one pause.
            tokio::select! {
                () = sleep(jitter(pause)) => {}
                () = nudge.notified() => {}
            }
        }
    }

    /// Asks over one connection until it fails.
    async fn session(
        &self,
        board: &Board,
        answered: &mut bool,
    ) -> Result<std::convert::Infallible, FollowError> {
        // Ends with this function, and the connection with it.
        let mut carrier = JoinSet::new();
        let mut sender = http::connect(&self.dialer, self.peer.id, PORT, &mut carrier).await?;
        let mut seen: Option<HeaderValue> = None;
        loop {
            let mut request = Request::get(server::FACTS).header(HOST, &self.peer.host);
            if let Some(seen) = &seen {
                let wait = format!("wait={}", WAIT.as_secs());
                request = request.header(IF_NONE_MATCH, seen).header(server::PREFER, wait);
            }
            let request = request.body(Body::empty())?;
            let answer = timeout(WAIT + GRACE, sender.send_request(request));
            let answer = answer.await.map_err(|_| FollowError::Late)?.map_err(FollowError::Talk)?;
            let tag = answer.headers().get(ETAG).cloned();
            if let Some(facts) = self.read(answer).await? {
                board.set(self.peer.id, Ok(facts));
                seen = tag;
            }
            *answered = true;
        }
    }

    /// Reads an answer; `None`: nothing is new.
    async fn read(&self, answer: Response<Incoming>) -> Result<Option<Facts>, FollowError> {
        let code = answer.status();
        let body = axum::body::to_bytes(Body::new(answer.into_body()), LONGEST_ANSWER).await;
        let body = body.map_err(FollowError::Body)?;
        match code {
            StatusCode::NOT_MODIFIED => return Ok(None),
            StatusCode::OK => {}
            _ => {
                let text = String::from_utf8_lossy(&body).trim().to_owned();
                return Err(FollowError::Refused { code, text });
            }
        }
        self.judge(&body).map(Some)
    }

    /// Asks once.
    pub(super) async fn once(&self) -> Result<Facts, FollowError> {
        let request = Request::get(server::FACTS).body(Body::empty())?;
        let text = http::ask(&self.dialer, (self.peer.id, PORT), request, GRACE).await?;
        self.judge(text.as_bytes())
    }

    /// Whether these are facts, and this peer's.
    fn judge(&self, body: &[u8]) -> Result<Facts, FollowError> {
        let AnyVersion { version } = serde_json::from_slice(body)?;
        if version != VERSION {
            return Err(FollowError::Version(version));
        }
        let facts: Facts = serde_json::from_slice(body)?;
        let own = self.own.borrow().node.as_ref().map(|node| node.cluster.clone());
        if facts.node != self.peer.id || own.is_some_and(|own| own != facts.cluster) {
            return Err(FollowError::Stranger { node: facts.node.into(), cluster: facts.cluster });
        }
        Ok(facts)
    }
}

/// Between three quarters of a pause and all of it, so that nodes that failed together do not come together.
fn jitter(pause: Duration) -> Duration {
    // The standard library's one source of randomness: each `RandomState` has other keys.
    let random = RandomState::new().build_hasher().finish() % 256;
    pause * 3 / 4 + pause / 4 * u32::try_from(random).unwrap_or(0) / 256
}
