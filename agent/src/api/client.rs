//! The client's end of the local API.

use std::io;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use trilith_core::status::NodeStatus;

use super::Ask;

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("cannot reach the agent on {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the agent does not answer")]
    Talk(#[source] hyper::Error),
    #[error("the agent's answer breaks off")]
    Body(#[source] axum::Error),
    #[error("the agent answers {code}: {text}")]
    Refused { code: StatusCode, text: String },
    #[error("the agent's answer is not a status")]
    Parse(#[from] serde_json::Error),
    #[error("the request is malformed")]
    Request(#[from] axum::http::Error),
}

/// An answer is a few KiB; more is not a status.
const LONGEST_ANSWER: usize = 16 << 20;

/// Asks for the status, when told so only once it is as wanted or the time is over.
pub(crate) async fn status(socket: &Path, ask: &Ask) -> Result<NodeStatus, AskError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| AskError::Connect { path: socket.into(), source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(AskError::Talk)?;
    // The connection carries the bytes; its own error comes out of the request as well.
    let carrier = tokio::spawn(connection);
    let request = Request::get(path(ask)).header("host", "trilith").body(Body::empty())?;
    let answer = sender.send_request(request).await.map_err(AskError::Talk)?;
    let code = answer.status();
    let body = axum::body::to_bytes(Body::new(answer.into_body()), LONGEST_ANSWER)
        .await
        .map_err(AskError::Body)?;
    carrier.abort();
    if code != StatusCode::OK {
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        return Err(AskError::Refused { code, text });
    }
    Ok(serde_json::from_slice(&body)?)
}

/// Names of subjects are plain words: another text makes a request that is malformed.
fn path(ask: &Ask) -> String {
    let parts = [
        ask.wait.map(|wait| format!("wait={}", wait.name())),
        ask.timeout.map(|seconds| format!("timeout={seconds}")),
        ask.subject.as_ref().map(|subject| format!("subject={subject}")),
    ];
    format!("/status?{}", parts.into_iter().flatten().collect::<Vec<_>>().join("&"))
}
