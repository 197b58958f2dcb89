//! The client's end of the local API.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use trilith_core::status::NodeStatus;

use super::Wait;

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("cannot reach the agent on {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the agent does not answer")]
    Talk(#[source] hyper::Error),
    #[error("the agent's answer breaks off")]
    Body(#[source] axum::Error),
    #[error("the agent answers {0}")]
    Refused(StatusCode),
    #[error("the agent's answer is not a status")]
    Parse(#[from] serde_json::Error),
    #[error("the request is malformed")]
    Request(#[from] axum::http::Error),
}

/// An answer is a few KiB; more is not a status.
const LONGEST_ANSWER: usize = 16 << 20;

/// Asks for the status, when told so only once it is as wanted or the time is over.
pub(crate) async fn status(
    socket: &Path,
    wait: Option<(Wait, Duration)>,
) -> Result<NodeStatus, AskError> {
    let path = match wait {
        None => "/status".to_owned(),
        Some((wait, time)) => format!("/status?wait={}&timeout={}", wait.name(), time.as_secs()),
    };
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| AskError::Connect { path: socket.into(), source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(AskError::Talk)?;
    // The connection carries the bytes; its own error comes out of the request as well.
    let carrier = tokio::spawn(connection);
    let request = Request::get(path).header("host", "trilith").body(Body::empty())?;
    let answer = sender.send_request(request).await.map_err(AskError::Talk)?;
    let code = answer.status();
    let body = axum::body::to_bytes(Body::new(answer.into_body()), LONGEST_ANSWER)
        .await
        .map_err(AskError::Body)?;
    carrier.abort();
    if code != StatusCode::OK {
        return Err(AskError::Refused(code));
    }
    Ok(serde_json::from_slice(&body)?)
}
