//! Releases from node to node: what this node's slots hold, for the others (by way of trilith-share, which may read them);
//! what the others hold, for this node's updater. The agent passes it on, and keeps out who is no node of the cluster.

use std::path::Path as File;
use std::str::FromStr as _;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{HOST, RANGE};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use trilith_core::boot::RootHash;
use trilith_core::names::NodeId;
use trilith_core::peers::PORT;
use trilith_core::status::NodeStatus;
use trilith_core::update;
use trilith_core::update::peers::{Held, NODES, RELEASES, SOCKET, Shared};

use crate::peers::{Dialer, http};

/// How long the head of an answer may take: whoever has many to serve lets them wait.
const LIMIT: Duration = Duration::from_secs(30);
/// What a node has is a few roots.
const LONGEST_ANSWER: usize = 1 << 20;

/// Why there is no answer.
type Refusal = (StatusCode, String);

/// A part of a release as it stands in a path, and in none but its own form behind this.
#[derive(serde::Deserialize)]
struct Named {
    root: String,
    part: String,
}

impl Named {
    /// The path that asks for it.
    fn path(self) -> Result<String, Refusal> {
        let bad = |error: &dyn ToString| (StatusCode::BAD_REQUEST, error.to_string());
        let root = RootHash::try_from(self.root).map_err(|error| bad(&error))?;
        let part = Held::from_str(&self.part).map_err(|error| bad(&error))?;
        Ok(format!("{RELEASES}/{root}/{part}"))
    }
}

/// Behind the door for the nodes of the cluster.
pub(crate) fn routes(status: watch::Receiver<NodeStatus>) -> Router {
    Router::new()
        .route(RELEASES, get(list))
        .route(&format!("{RELEASES}/{{root}}/{{part}}"), get(give))
        .with_state(status)
}

async fn list(State(status): State<watch::Receiver<NodeStatus>>) -> Json<Shared> {
    // First: a slot gets its name before the updater is no longer fetching it, and nobody shall see neither.
    let fetching = status.borrow().update.as_ref().and_then(update::State::told);
    let shared = async {
        let answer = slots(RELEASES, &HeaderMap::new()).await.ok()?;
        let body = axum::body::to_bytes(Body::new(answer.into_body()), LONGEST_ANSWER).await;
        serde_json::from_slice(&body.ok()?).ok()
    };
    // Nobody who could look: a node that is not installed has no slots.
    let shared: Shared = shared.await.unwrap_or_default();
    Json(Shared { fetching, ..shared })
}

async fn give(Path(named): Path<Named>, headers: HeaderMap) -> Result<Response, Refusal> {
    let answer = slots(&named.path()?, &headers).await?;
    Ok(answer.map(Body::new).into_response())
}

/// What trilith-share answers.
async fn slots(path: &str, headers: &HeaderMap) -> Result<Response<Incoming>, Refusal> {
    let away =
        |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("nothing is shared here: {why}"));
    let request = request(path, headers)?;
    let talk = async {
        let stream = UnixStream::connect(File::new(SOCKET)).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let shaken = handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
        // It ends with the answer's body.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| error.to_string())
    };
    let answer = timeout(LIMIT, talk).await.map_err(|_| away("no answer".into()))?;
    answer.map_err(away)
}

/// A question with nothing of another one but its range.
fn request(path: &str, headers: &HeaderMap) -> Result<Request<Body>, Refusal> {
    let request = Request::get(path).header(HOST, "trilith");
    let request = match headers.get(RANGE) {
        Some(range) => request.header(RANGE, range),
        None => request,
    };
    let malformed = |_| (StatusCode::BAD_REQUEST, "the request is malformed".into());
    request.body(Body::empty()).map_err(malformed)
}

/// On the local socket: what the updater asks the others.
pub(crate) fn local(dialer: watch::Receiver<Option<Dialer>>) -> Router {
    Router::new()
        .route(NODES, get(nodes))
        .route(&format!("{NODES}/{{id}}{RELEASES}"), get(ask_list))
        .route(&format!("{NODES}/{{id}}{RELEASES}/{{root}}/{{part}}"), get(ask))
        .with_state(dialer)
}

type Dialing = State<watch::Receiver<Option<Dialer>>>;

fn dialing(State(dialer): &Dialing) -> Result<Dialer, Refusal> {
    let dialer = dialer.borrow().clone();
    let reason = || "this node talks with no other one".to_owned();
    dialer.ok_or_else(|| (StatusCode::SERVICE_UNAVAILABLE, reason()))
}

async fn nodes(dialer: Dialing) -> Result<Response, Refusal> {
    Ok(Json(dialing(&dialer)?.nodes()).into_response())
}

async fn ask_list(dialer: Dialing, Path(id): Path<NodeId>) -> Result<Response, Refusal> {
    pass_on(&dialing(&dialer)?, id, request(RELEASES, &HeaderMap::new())?).await
}

async fn ask(
    dialer: Dialing,
    Path((id, root, part)): Path<(NodeId, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let path = Named { root, part }.path()?;
    pass_on(&dialing(&dialer)?, id, request(&path, &headers)?).await
}

/// The other node's answer, as it is.
async fn pass_on(
    dialer: &Dialer,
    node: NodeId,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let answer = timeout(LIMIT, http::open(dialer, (node, PORT), request)).await;
    let answer = answer.map_err(|_| (StatusCode::GATEWAY_TIMEOUT, "no answer".to_owned()))?;
    let answer = answer.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))?;
    let code = answer.status();
    Ok((code, Body::new(answer.into_body())).into_response())
}
