//! The HTTP server: files with ranges, and the bundles.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::TryStreamExt as _;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tower_http::services::ServeFile;
use trilith_core::names::NodeId;
use trilith_core::netboot::{Asking, Refusal, Report, fingerprint, path, proof};
use zeroize::Zeroizing;

use super::desk::{Desk, Verdict};
use super::release::Release;
use super::reported::Reported;
use crate::vault::Lock;

/// How long a machine is kept waiting for a person before it is told to ask again: short enough for any box on the way
/// that forgets silent connections.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a machine says about itself is short.
const LONGEST: usize = 16 << 10;

/// What the server knows.
pub(crate) struct Office {
    pub(crate) release: Release,
    bundles: BTreeMap<NodeId, Zeroizing<String>>,
    state: Mutex<Ledger>,
    /// A decision was made.
    decided: Notify,
    /// Something is to be seen.
    pub(crate) news: Notify,
}

/// What changes.
pub(crate) struct Ledger {
    /// Who asked for a bundle.
    pub(crate) desk: Desk,
    reported: Reported,
    /// What of which file was sent to whom: (bytes, of how many).
    pub(crate) sent: BTreeMap<(IpAddr, &'static str), (u64, u64)>,
    /// What has happened and was not shown yet.
    pub(crate) told: Vec<String>,
}

impl Office {
    /// A server before its first visitor.
    pub(crate) fn new(
        release: Release,
        bundles: BTreeMap<NodeId, Zeroizing<String>>,
        desk: Desk,
        reported: Reported,
    ) -> Self {
        let ledger = Ledger { desk, reported, sent: BTreeMap::new(), told: Vec::new() };
        let (decided, news) = (Notify::new(), Notify::new());
        Self { release, bundles, state: Mutex::new(ledger), decided, news }
    }

    /// What changes. A handler that failed half-way has left nothing half-done in it.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something for the operator.
    pub(crate) fn tell(&self, line: String) {
        self.ledger().told.push(line);
        self.news.notify_one();
    }

    /// A line of dnsmasq's log: which machine asked for what to start, without the details that follow it.
    pub(crate) fn tell_dhcp(&self, line: &str) {
        let said = line.split_once(": ").map_or(line, |(_, said)| said);
        let words = ["PXE(", "DHCPACK(", "sent ", "error", "failed", "file "];
        if words.iter().any(|word| said.contains(word)) && !said.contains("sent size") {
            self.tell(format!("dnsmasq: {said}"));
        }
    }

    /// What the operator typed.
    pub(crate) fn typed(&self, line: &str) {
        let mut words = line.split_whitespace();
        let Some(word) = words.next() else { return };
        let number = words.next().and_then(|number| number.parse().ok());
        let answer = match (word, number) {
            ("y" | "yes", Some(number)) => self.ledger().desk.decide(number, true),
            ("n" | "no", Some(number)) => self.ledger().desk.decide(number, false),
            _ => "`y NUMBER` or `n NUMBER`; control-C ends".to_owned(),
        };
        self.decided.notify_waiters();
        self.tell(answer);
    }

    /// Waits until it is decided about a machine, but not for ever.
    async fn verdict(&self, asking: &Asking, from: IpAddr) -> Verdict {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let decided = self.decided.notified();
            tokio::pin!(decided);
            // From here on no decision is missed.
            decided.as_mut().enable();
            let (verdict, new) = self.ledger().desk.ask(asking.clone(), from);
            if new {
                self.tell(format!("{from} asks for its bundle, key {}", fingerprint(&asking.key)));
            }
            let late =
                verdict == Verdict::Wait && tokio::time::timeout_at(until, decided).await.is_err();
            if late || verdict != Verdict::Wait {
                return verdict;
            }
        }
    }

    fn encrypted(&self, node: NodeId, key: &str) -> Result<(Vec<u8>, String)> {
        let bundle = self.bundles.get(&node).context("there is no bundle of it")?;
        let lock = Lock::Recipients(vec![key.to_owned()]);
        Ok((lock.encrypt(bundle.as_bytes())?, proof(bundle)))
    }
}

/// What there is to ask for.
pub(crate) fn router(office: Arc<Office>, url: &str) -> Router {
    let script = office.release.script(url);
    let manifest = office.release.manifest.clone();
    let at = |name: &str| format!("/{name}");
    Router::new()
        .route(&at(path::UKI), get(uki))
        .route(&at(path::DISK), get(disk))
        .route(&at(path::SCRIPT), get(move || async { script }))
        .route(&at(path::MANIFEST), get(move || async { Json(manifest) }))
        .route(&at(path::BUNDLE), post(bundle))
        .route(&at(path::REPORT), post(report))
        .layer(DefaultBodyLimit::max(LONGEST))
        .with_state(office)
}

/// Serves until it cannot any more.
pub(crate) async fn serve(listener: TcpListener, router: Router) -> Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, service).await?)
}

async fn uki(
    State(office): State<Arc<Office>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let file = office.release.uki.clone();
    send(office, from.ip(), (path::UKI, &file), request).await
}

async fn disk(
    State(office): State<Arc<Office>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let file = office.release.disk.clone();
    send(office, from.ip(), (path::DISK, &file), request).await
}

/// Sends a file, or a range of it, and counts what was sent.
async fn send(
    office: Arc<Office>,
    from: IpAddr,
    (name, file): (&'static str, &Path),
    request: Request,
) -> Response {
    let size = std::fs::metadata(file).map_or(0, |meta| meta.len());
    let response = match ServeFile::new(file).try_call(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
    };
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let mut position = range.and_then(first_of_range).unwrap_or(0);
    office.tell(match position {
        0 => format!("{from} asks for {name}"),
        _ => format!("{from} goes on with {name} at byte {position}"),
    });
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect_ok(move |chunk| {
            position += chunk.len() as u64;
            office.ledger().sent.insert((from, name), (position, size));
            office.news.notify_one();
        }))
    })
}

/// `bytes FIRST-LAST/ALL` (RFC 9110, 14.4).
fn first_of_range(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

async fn bundle(
    State(office): State<Arc<Office>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Json(asking): Json<Asking>,
) -> Response {
    let no =
        |status: StatusCode, reason: String| (status, Json(Refusal { reason })).into_response();
    match office.verdict(&asking, from.ip()).await {
        Verdict::Wait => no(StatusCode::ACCEPTED, "waiting for the operator's yes".into()),
        Verdict::No(reason) => no(StatusCode::FORBIDDEN, reason),
        Verdict::Unknown(reason) => no(StatusCode::NOT_FOUND, reason),
        Verdict::Give(node) => match office.encrypted(node, &asking.key) {
            Ok((encrypted, proof)) => {
                office.ledger().desk.gave(&asking.key, proof);
                office.tell(format!("{} is sent the bundle of node {node}", from.ip()));
                encrypted.into_response()
            }
            Err(error) => no(StatusCode::BAD_REQUEST, format!("{error:#}")),
        },
    }
}

async fn report(State(office): State<Arc<Office>>, Json(report): Json<Report>) -> Response {
    let outcome = {
        let mut ledger = office.ledger();
        ledger.desk.report(&report).map(|(node, print)| (node, ledger.reported.add(node, print)))
    };
    match outcome {
        Ok((node, kept)) => {
            office.tell(match kept {
                Ok(()) => format!("node {node} has reported in"),
                Err(error) => format!("node {node} has reported in, but: {error:#}"),
            });
            StatusCode::NO_CONTENT.into_response()
        }
        Err(reason) => (StatusCode::FORBIDDEN, Json(Refusal { reason })).into_response(),
    }
}
