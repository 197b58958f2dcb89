//! The local API: the status over a unix socket, as JSON and as Prometheus text.
//!
//! `GET /status` answers at once; `GET /status?wait=converged&timeout=60` answers when the node has converged,
//! or with the status of the end of that time (in seconds). `subject=NAME` narrows both to one subject.
//! `GET /metrics` is Prometheus text. Below `/v1/` is what [`crate::diagnosis`] and [`crate::share`] have.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use nix::unistd::{Group, geteuid};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::timeout;
use trilith_core::status::NodeStatus;

pub(crate) mod client; // the other end: `trilithd status`
mod metrics; // the status as Prometheus text

/// Where the agent listens, unless told otherwise.
pub(crate) const SOCKET: &str = "/run/trilith/agent.sock";

/// The longest time that a request may wait for a state: a client that died is noticed at the latest then.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// A state that a request may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wait {
    /// A bundle without problems, and every subject converged.
    Converged,
    /// A bundle, and every subject converged or degraded.
    Settled,
    /// The node knows who it is: it has a bundle.
    Bundle,
}

impl Wait {
    /// Its name in a request.
    fn name(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Settled => "settled",
            Self::Bundle => "bundle",
        }
    }

    /// Whether the status is what was waited for.
    fn is_over(self, status: &NodeStatus) -> bool {
        match self {
            Self::Converged => status.is_converged(),
            Self::Settled => {
                status.bundle.source.is_some()
                    && status.subjects.values().all(|subject| subject.state.is_settled())
            }
            Self::Bundle => status.bundle.source.is_some(),
        }
    }
}

/// The query of `GET /status`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    /// Answer when this is so.
    pub(crate) wait: Option<Wait>,
    /// Seconds; without it, as long as is allowed.
    pub(crate) timeout: Option<u64>,
    /// Only this one, as if there were no others.
    pub(crate) subject: Option<String>,
}

impl Ask {
    /// Whether the status is what was waited for.
    pub(crate) fn is_over(&self, status: &NodeStatus) -> bool {
        self.wait.is_none_or(|wait| wait.is_over(&self.narrow(status)))
    }

    /// The part of the status that was asked for.
    fn narrow(&self, status: &NodeStatus) -> NodeStatus {
        let mut status = status.clone();
        if let Some(wanted) = &self.subject {
            status.subjects.retain(|name, _| name == wanted);
        }
        status
    }
}

/// The API could not begin to listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}", path.display())]
pub(crate) struct ListenError {
    path: PathBuf,
    source: io::Error,
}

/// Who may read the journal may read the status and what else there is to read here: the status screens do.
const GROUP: &str = "systemd-journal";

/// Listens on a socket that only root and [`GROUP`] may use.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    bind(path).map_err(|source| ListenError { path: path.into(), source })
}

/// Binds beside and renames: the socket never has wider permissions than it should, and one that a killed agent
/// left is replaced.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o660))?;
    // Tests run on hosts without that group.
    if let Some(group) = Group::from_name(GROUP)?.filter(|_| geteuid().is_root()) {
        std::os::unix::fs::chown(&beside, None, Some(group.gid.as_raw()))?;
    }
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// Answers until the agent stops.
pub(crate) async fn serve(
    listener: UnixListener,
    status: watch::Receiver<NodeStatus>,
    more: Router,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/status", get(give_status))
        .route("/metrics", get(give_metrics))
        .with_state(status)
        .merge(more);
    axum::serve(listener, routes).await
}

async fn give_status(
    State(mut status): State<watch::Receiver<NodeStatus>>,
    Query(ask): Query<Ask>,
) -> Result<Json<NodeStatus>, (StatusCode, String)> {
    if let Some(wanted) = &ask.subject
        && !status.borrow().subjects.contains_key(wanted)
    {
        let all = status.borrow().subjects.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err((StatusCode::NOT_FOUND, format!("no subject {wanted}; there are {all}")));
    }
    if ask.wait.is_some() {
        let longest = ask.timeout.map_or(LONGEST_WAIT, Duration::from_secs).min(LONGEST_WAIT);
        // Either way the answer is the status as it is then: an error here is the end of the time.
        let _ = timeout(longest, status.wait_for(|status| ask.is_over(status))).await;
    }
    let now = ask.narrow(&status.borrow());
    Ok(Json(now))
}

async fn give_metrics(State(status): State<watch::Receiver<NodeStatus>>) -> impl IntoResponse {
    let text = metrics::render(&status.borrow());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

#[cfg(test)]
mod tests;
