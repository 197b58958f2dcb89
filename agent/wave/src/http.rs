//! One question by HTTP over a connection of its own.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// An answer is a few KiB.
const LONGEST_ANSWER: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("it cannot be reached: {0}")]
    Connect(#[from] io::Error),
    #[error("it does not answer: {0}")]
    Talk(#[from] hyper::Error),
    #[error("its answer breaks off: {0}")]
    Body(#[source] axum::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("it refuses ({code}): {text}")]
    Refused { code: StatusCode, text: String },
}

/// Puts a question, and gives the text of a good answer.
pub(crate) async fn ask<S>(
    stream: S,
    request: Request<Body>,
    limit: Duration,
) -> Result<String, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let talk = async {
        let stream = TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let carrier = tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        let code = answer.status();
        let body = axum::body::to_bytes(Body::new(answer.into_body()), LONGEST_ANSWER).await;
        carrier.abort();
        let text = String::from_utf8_lossy(&body.map_err(HttpError::Body)?).into_owned();
        if code.is_success() {
            Ok(text)
        } else {
            Err(HttpError::Refused { code, text: text.trim().to_owned() })
        }
    };
    timeout(limit, talk).await.map_err(|_| HttpError::Late(limit))?
}
