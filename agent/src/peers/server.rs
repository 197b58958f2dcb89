//! Tells the other nodes of the cluster what this one knows of itself.
//!
//! `GET /v1/facts` answers at once; with `If-None-Match` and `Prefer: wait=SECONDS` (RFC 7240, 4.3) it answers
//! when the facts are others than those that were seen, or 304 at the end of that time. `GET /v1/status` is the
//! whole status.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};
use trilith_core::names::NodeId;
use trilith_core::peers::{Circle, Facts, PORT};
use trilith_core::status::NodeStatus;

use super::tls;
use crate::reconcile::chain;
use crate::wake;

/// Where the facts are.
pub(super) const FACTS: &str = "/v1/facts";
/// How a client says how long it would wait (RFC 7240).
pub(super) const PREFER: &str = "prefer";

/// The longest time that a request may wait for news.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// How long a client may take to show who it is.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long it may then be silent between requests.
const IDLE: Duration = Duration::from_mins(2);
/// The pause before an address is tried again that could not be listened on, or accepted from.
const AGAIN: Duration = Duration::from_secs(5);
/// Connections beyond two for each node of the cluster: strangers can hold up only each other, for the time of a handshake.
const SPARE: usize = 16;
/// Refusals that are remembered, so that each is logged once.
const REFUSALS: usize = 256;

/// Who may come in.
pub(super) struct Door {
    circle: Circle,
    tls: Arc<ServerConfig>,
    /// To tell a follower that its node has just come here, and so lives.
    nudges: BTreeMap<NodeId, Arc<Notify>>,
    pub(super) refused: RefCell<BTreeMap<IpAddr, String>>,
}

/// The facts as they are told.
#[derive(Clone, Default, PartialEq)]
struct Told {
    tag: String,
    json: String,
}

/// What answers are made of.
#[derive(Clone)]
struct Answers {
    told: watch::Receiver<Told>,
    status: watch::Receiver<NodeStatus>,
}

impl Door {
    pub(super) fn new(
        circle: Circle,
        tls: Arc<ServerConfig>,
        nudges: BTreeMap<NodeId, Arc<Notify>>,
    ) -> Rc<Self> {
        Rc::new(Self { circle, tls, nudges, refused: RefCell::default() })
    }

    /// Logs a refusal once for each address and reason.
    fn refuse(&self, from: SocketAddr, reason: &str) {
        let mut refused = self.refused.borrow_mut();
        let news = refused.get(&from.ip()).is_none_or(|before| before != reason);
        if refused.len() >= REFUSALS {
            refused.clear();
        }
        if news {
            refused.insert(from.ip(), reason.to_owned());
            warn!(from = %from.ip(), "peers: {} is refused: {reason}", from.ip());
        }
    }

    /// Lets a node of the cluster in.
    async fn admit(self: Rc<Self>, stream: TcpStream, from: SocketAddr, routes: Router) {
        let handshake = TlsAcceptor::from(Arc::clone(&self.tls)).accept(stream);
        let stream = match timeout(HANDSHAKE, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.refuse(from, &tls::explain(&error)),
            Err(_) => return self.refuse(from, "it does not finish the TLS handshake"),
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let node = certificate.and_then(|certificate| tls::who(certificate, &self.circle));
        let routes = if let Some(node) = node {
            self.refused.borrow_mut().remove(&from.ip());
            if let Some(nudge) = self.nudges.get(&node) {
                nudge.notify_one();
            }
            routes
        } else {
            let reason = "the certificate names no other node of this cluster";
            self.refuse(from, reason);
            Router::new().fallback((StatusCode::FORBIDDEN, reason))
        };
        let talk = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
        // A connection that breaks is news for its other end.
        let _ = talk.await;
    }
}

/// Listens on the node's addresses until dropped.
pub(super) async fn serve(door: Rc<Door>, status: watch::Receiver<NodeStatus>) {
    let (tell, told) = watch::channel(Told::default());
    let routes = Router::new()
        .route(FACTS, get(give_facts))
        .route("/v1/status", get(give_status))
        .with_state(Answers { told, status: status.clone() });
    let mut tasks = JoinSet::new();
    for ip in &door.circle.me.addresses {
        tasks.spawn_local(listen(Rc::clone(&door), *ip, routes.clone()));
    }
    follow_status(status, &tell).await;
}

/// Keeps what is told right.
async fn follow_status(mut status: watch::Receiver<NodeStatus>, tell: &watch::Sender<Told>) {
    let boot = crate::system::boot::id();
    loop {
        let facts = Facts::of(&status.borrow_and_update(), &boot);
        // Facts are plain values: they can always be written.
        let json = facts.and_then(|facts| serde_json::to_string(&facts).ok()).unwrap_or_default();
        let told = Told { tag: tag(&json), json };
        tell.send_if_modified(|old| {
            let news = *old != told;
            *old = told;
            news
        });
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// A name for exactly this text. Two agents with the same text and another name cost one more answer, nothing else.
fn tag(json: &str) -> String {
    use std::hash::{DefaultHasher, Hasher as _};
    let mut hasher = DefaultHasher::new();
    hasher.write(json.as_bytes());
    format!("\"{:016x}\"", hasher.finish())
}

async fn give_facts(State(mut answers): State<Answers>, headers: HeaderMap) -> Response {
    let seen = headers.get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
    let news = answers.told.wait_for(|told| !told.json.is_empty() && told.tag != seen);
    // Either way the answer is what there is then: an error here is the end of the time.
    let _ = timeout(patience(&headers), news).await;
    let Told { tag, json } = answers.told.borrow().clone();
    match json.is_empty() {
        true => {
            (StatusCode::SERVICE_UNAVAILABLE, "this node does not know who it is").into_response()
        }
        false if tag == seen => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(ETAG, tag), (CONTENT_TYPE, "application/json".into())], json).into_response(),
    }
}

/// How long the client would wait; not at all if it does not say.
fn patience(headers: &HeaderMap) -> Duration {
    let preferences = headers.get(PREFER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wait =
        preferences.split(',').find_map(|one| one.trim().strip_prefix("wait=")?.parse().ok());
    wait.map_or(Duration::ZERO, Duration::from_secs).min(LONGEST_WAIT)
}

async fn give_status(State(answers): State<Answers>) -> Json<NodeStatus> {
    Json(answers.status.borrow().clone())
}

/// Listens on one address until dropped.
async fn listen(door: Rc<Door>, ip: IpAddr, routes: Router) {
    loop {
        match bind(SocketAddr::new(ip, PORT)) {
            Ok(listener) => {
                info!("peers: listening on {ip}, port {PORT}");
                return accept(&door, &listener, &routes).await;
            }
            Err(error) => {
                warn!("peers: cannot listen on {ip}, port {PORT}: {}", chain(&error));
                sleep(AGAIN).await;
            }
        }
    }
}

/// Binds also while the address is not there: it comes and goes with its link, the listener stays.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.set_reuse_address(true)?;
    // Accepted connections inherit it.
    probe(&SockRef::from(&socket))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

/// Lets the kernel notice within about 11 s that the other machine is gone, also while nothing is sent.
pub(super) fn probe(socket: &SockRef<'_>) -> io::Result<()> {
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(11)))
}

/// Accepts until dropped. That one more cannot be accepted, as with too many open files, is no reason to let those go
/// that are here.
async fn accept(door: &Rc<Door>, listener: &TcpListener, routes: &Router) {
    let most = door.circle.others.len() * 2 + SPARE;
    let mut guests = JoinSet::new();
    let mut deaf = None;
    loop {
        // Cancel safety: the first two say of themselves that they are, and a moment stays one.
        tokio::select! {
            accepted = listener.accept(), if deaf.is_none() => match accepted {
                Ok((stream, from)) if guests.len() < most => {
                    guests.spawn_local(Rc::clone(door).admit(stream, from, routes.clone()));
                }
                Ok((_, from)) => door.refuse(from, "too many connections"),
                // The client was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!("peers: cannot accept: {}", chain(&error));
                    deaf = Some(Instant::now() + AGAIN);
                }
            },
            Some(_) = guests.join_next() => {}
            () = wake::at(deaf), if deaf.is_some() => deaf = None,
        }
    }
}
