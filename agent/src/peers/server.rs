//! Tells the other nodes of the cluster what this one knows of itself.
//!
//! `GET /v1/facts` answers at once; with `If-None-Match` and `Prefer: wait=SECONDS` (RFC 7240, 4.3) it answers
//! when the facts are others than those that were seen, or 304 at the end of that time. `GET /v1/status` is the
//! whole status. Below `/v1/releases` is what [`crate::share`] has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use trilith_core::names::NodeId;
use trilith_core::peers::{Circle, Facts, PORT};
use trilith_core::status::NodeStatus;

use super::door::{Door, Guest};
use super::tls;

/// Where the facts are.
pub(super) const FACTS: &str = "/v1/facts";
/// How a client says how long it would wait (RFC 7240).
pub(super) const PREFER: &str = "prefer";

/// The longest time that a request may wait for news.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Connections beyond two for each node of the cluster.
const SPARE: usize = 16;

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

/// The door for the other nodes of the cluster. A nudge tells a follower that its node has just come here, and so lives.
pub(super) fn door(
    circle: Circle,
    tls: Arc<ServerConfig>,
    nudges: BTreeMap<NodeId, Arc<Notify>>,
) -> Rc<Door> {
    let most = circle.others.len() * 2 + SPARE;
    let judge = Box::new(move |certificate: &CertificateDer<'_>, _| {
        let node = tls::who(certificate, &circle);
        let node = node.ok_or("the certificate names no other node of this cluster")?;
        if let Some(nudge) = nudges.get(&node) {
            nudge.notify_one();
        }
        Ok(Guest::Node)
    });
    Rc::new(Door { name: "peers", port: PORT, most, tls, judge, refused: RefCell::default() })
}

/// Listens on the node's addresses until dropped.
pub(super) async fn serve(
    door: Rc<Door>,
    addresses: Vec<IpAddr>,
    status: watch::Receiver<NodeStatus>,
) {
    let (tell, told) = watch::channel(Told::default());
    let routes = Router::new()
        .route(FACTS, get(give_facts))
        .route("/v1/status", get(give_status))
        .with_state(Answers { told, status: status.clone() })
        .merge(crate::share::routes(status.clone()));
    let mut tasks = JoinSet::new();
    for ip in addresses {
        tasks.spawn_local(Rc::clone(&door).listen(ip, routes.clone()));
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
