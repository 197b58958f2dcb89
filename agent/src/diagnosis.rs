//! What a person asks this node for when something is wrong: status, journal, network, disks, and the parts of a
//! support bundle. Only to be read; behind the operators' door and on the local socket, the same on both.
//!
//! `GET /v1/status`, `/v1/net`, `/v1/disks`: JSON; `/v1/status/news`: the status in a line of JSON, and again whenever it
//! changes. `/v1/logs?unit=U&lines=N&priority=P&boot=B&follow=true`: a line of JSON for each message
//! ([`trilith_core::diagnosis::journal::Line`]), for ever if it is followed. `/v1/parts`: their names, as JSON;
//! `/v1/parts/NAME`: one, as text. No text leaves without the node's secrets taken out of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::sleep;
use trilith_core::diagnosis::PARTS;
use trilith_core::diagnosis::disks::Disk;
use trilith_core::diagnosis::journal::{FIELDS, Line, MOST};
use trilith_core::diagnosis::net::Net;
use trilith_core::network::{Desired, Network};
use trilith_core::secrets::redact::Redactor;
use trilith_core::status::NodeStatus;

use crate::reconcile::{Host, chain};
use crate::system::exec::{self, ExecError, Talking};
use crate::system::netlink::Netlink;
use crate::system::{frr, osds, support};

/// Changes of the status that follow each other within this time are told together.
const BREATH: Duration = Duration::from_millis(500);

/// How many messages there are without a number.
const LINES: u32 = 100;

/// What answers are made of.
#[derive(Clone)]
struct Sources {
    status: watch::Receiver<NodeStatus>,
    redactor: watch::Receiver<Arc<Redactor>>,
}

/// Which messages of the journal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Logs {
    unit: Option<String>,
    lines: Option<u32>,
    /// This bad or worse (syslog(3)).
    priority: Option<u8>,
    /// 0: of this boot; -1: of the one before.
    boot: Option<i32>,
    #[serde(default)]
    follow: bool,
}

/// Why there is no answer.
enum Failure {
    Unknown(String),
    Failed(String),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown(text) => (StatusCode::NOT_FOUND, text).into_response(),
            Self::Failed(text) => (StatusCode::INTERNAL_SERVER_ERROR, text).into_response(),
        }
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        Self::Failed(chain(&error).to_string())
    }
}

/// Everything that there is to read.
pub(crate) fn routes(
    status: watch::Receiver<NodeStatus>,
    redactor: watch::Receiver<Arc<Redactor>>,
) -> Router {
    Router::new()
        .route("/v1/status", get(give_status))
        .route("/v1/status/news", get(give_news))
        .route("/v1/logs", get(give_logs))
        .route("/v1/net", get(give_net))
        .route("/v1/disks", get(give_disks))
        .route(PARTS, get(|| async { Json(support::names()) }))
        .route(&format!("{PARTS}/{{name}}"), get(give_part))
        .with_state(Sources { status, redactor })
}

async fn give_status(State(sources): State<Sources>) -> Json<NodeStatus> {
    Json(sources.status.borrow().clone())
}

/// The status now, and whenever a person would see a difference, each in a line.
async fn give_news(State(sources): State<Sources>) -> Response {
    let start = (sources.status, None::<NodeStatus>);
    let lines = stream::unfold(start, |(mut status, shown)| async move {
        loop {
            let now = status.borrow_and_update().without_counts();
            if shown.as_ref() != Some(&now) {
                let line = serde_json::to_string(&now).ok()? + "\n";
                return Some((Ok::<_, Infallible>(Bytes::from(line)), (status, Some(now))));
            }
            status.changed().await.ok()?;
            // Not for a state: what follows within it is told in one line.
            sleep(BREATH).await;
        }
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

async fn give_logs(
    State(sources): State<Sources>,
    Query(logs): Query<Logs>,
) -> Result<Response, Failure> {
    let Logs { unit, lines, priority, boot, follow } = logs;
    let lines = lines.unwrap_or(LINES).min(MOST);
    let mut args = vec!["--output=json".to_owned(), "--no-pager".into(), "--quiet".into()];
    args.extend([format!("--output-fields={FIELDS}"), format!("--lines={lines}")]);
    args.extend(unit.map(|unit| format!("--unit={unit}")));
    args.extend(priority.map(|priority| format!("--priority={priority}")));
    args.extend(boot.map(|boot| format!("--boot={boot}")));
    args.extend(follow.then(|| "--follow".to_owned()));
    let talking = exec::listen("journalctl", &args)?;
    let redactor = sources.redactor.borrow().clone();
    let body = streamed(talking, move |json| {
        let mut line = Line::parse(json)?;
        line.text = redactor.clean(&line.text).into_owned();
        serde_json::to_string(&line).ok()
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn give_net() -> Result<Json<Net>, Failure> {
    let look = Host::<Network>::observe(&mut Netlink::new(), &Desired::default()).await;
    let seen = look.map_err(|error| Failure::Failed(chain(&*error).to_string()))?;
    let bgp = frr::sessions().await;
    Ok(Json(Net { links: seen.links, addresses: seen.addresses, routes: seen.routes, bgp }))
}

async fn give_disks() -> Result<Json<Vec<Disk>>, Failure> {
    let disks = osds::diagnose().await;
    disks.map(Json).map_err(|error| Failure::Failed(chain(&error).to_string()))
}

async fn give_part(
    State(sources): State<Sources>,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let redactor = sources.redactor.borrow().clone();
    let clean = move |line: &str| Some(redactor.clean(line).into_owned());
    match support::part(&name) {
        None => Err(Failure::Unknown(format!("there is no part {name}"))),
        Some(support::Source::Program(program, args)) => {
            Ok(streamed(exec::listen(program, args)?, clean).into_response())
        }
        Some(support::Source::File(path)) => match tokio::fs::read(path).await {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let lines: Vec<String> = text.lines().filter_map(clean).collect();
                Ok((lines.join("\n") + "\n").into_response())
            }
            Err(error) => Ok(format!("{path}: {error}\n").into_response()),
        },
    }
}

/// What a program says, line by line as it comes. It is ended when nobody listens any more.
fn streamed(talking: Talking, change: impl Fn(&str) -> Option<String> + Send + 'static) -> Body {
    let lines = stream::unfold((talking, change), |(mut talking, change)| async {
        loop {
            let line = talking.line().await?;
            if let Some(mut line) = change(&line) {
                line.push('\n');
                return Some((Ok::<_, Infallible>(Bytes::from(line)), (talking, change)));
            }
        }
    });
    Body::from_stream(lines)
}

#[cfg(test)]
mod tests;
