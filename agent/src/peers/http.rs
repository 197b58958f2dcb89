//! One question by HTTP to a service of one of the cluster's nodes, over mutual TLS.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::HOST;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::timeout;
use trilith_core::names::NodeId;

use super::{DialError, Dialer, tls};

/// Answers are a few KiB; more are none.
const LONGEST_ANSWER: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{}", tls::explain(.0))]
    Talk(hyper::Error),
    #[error("its answer breaks off")]
    Body(#[source] axum::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("it refuses ({code}): {text}")]
    Refused { code: StatusCode, text: String },
}

/// Makes a connection that carries requests for as long as `carrier` is there.
pub(super) async fn connect(
    dialer: &Dialer,
    node: NodeId,
    port: u16,
    carrier: &mut JoinSet<hyper::Result<()>>,
) -> Result<SendRequest<Body>, AskError> {
    let stream = TokioIo::new(dialer.dial(node, port).await?);
    let (sender, connection) = handshake(stream).await.map_err(AskError::Talk)?;
    carrier.spawn(connection);
    Ok(sender)
}

/// Puts one question over a connection of its own, and gives the answer while it comes: the connection ends with its body.
pub(crate) async fn open(
    dialer: &Dialer,
    (node, port): (NodeId, u16),
    request: Request<Body>,
) -> Result<Response<Incoming>, AskError> {
    let stream = TokioIo::new(dialer.dial(node, port).await?);
    let (mut sender, connection) = handshake(stream).await.map_err(AskError::Talk)?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(AskError::Talk)
}

/// Puts one question over a connection of its own, and gives the text of a good answer.
pub(crate) async fn ask(
    dialer: &Dialer,
    (node, port): (NodeId, u16),
    mut request: Request<Body>,
    limit: Duration,
) -> Result<String, AskError> {
    // HTTP wants it; who is asked, the certificate says.
    request.headers_mut().insert(HOST, HeaderValue::from_static("cluster"));
    let talk = async {
        // Ends with this question, and the connection with it.
        let mut carrier = JoinSet::new();
        let mut sender = connect(dialer, node, port, &mut carrier).await?;
        let answer = sender.send_request(request).await.map_err(AskError::Talk)?;
        let code = answer.status();
        let body = axum::body::to_bytes(Body::new(answer.into_body()), LONGEST_ANSWER).await;
        let text = String::from_utf8_lossy(&body.map_err(AskError::Body)?).into_owned();
        if code.is_success() {
            Ok(text)
        } else {
            Err(AskError::Refused { code, text: text.trim().to_owned() })
        }
    };
    timeout(limit, talk).await.map_err(|_| AskError::Late(limit))?
}
