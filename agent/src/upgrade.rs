//! What operators ask and say about upgrades, passed on to the wave's program on this node. Only who has a certificate
//! for it may change something.

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use trilith_core::operators::Right;
use trilith_core::wave::command::{Command, Said};
use trilith_core::wave::settings::{PATH, SOCKET};

use crate::peers::Guest;

/// How long the program may take: it asks Ceph, which may take as long as 20 s.
const LIMIT: Duration = Duration::from_secs(50);
/// A view has some hundred bytes for each node.
const LONGEST_ANSWER: usize = 16 << 20;

/// Behind the operators' door alone.
pub(crate) fn routes() -> Router {
    Router::new().route(PATH, get(|| pass_on(Request::get(PATH), String::new())).post(say))
}

async fn say(Extension(guest): Extension<Guest>, Json(command): Json<Command>) -> Response {
    let operator = match guest {
        Guest::Operator(operator) if operator.right == Right::Upgrade => operator,
        Guest::Operator(_) | Guest::Node => {
            let reason = "this certificate may look and change nothing: make one with `trilith cluster operator --admin`";
            return (StatusCode::FORBIDDEN, reason).into_response();
        }
    };
    // Plain values: they can always be written.
    let body = serde_json::to_string(&Said { command, who: operator.name }).unwrap_or_default();
    pass_on(Request::post(PATH).header(CONTENT_TYPE, "application/json"), body).await
}

/// The program's answer, as it is.
async fn pass_on(request: axum::http::request::Builder, body: String) -> Response {
    let away = |why: String| {
        (StatusCode::SERVICE_UNAVAILABLE, format!("the wave's program on this node: {why}"))
    };
    let Ok(request) = request.header("host", "trilith").body(Body::from(body)) else {
        return away("the request is malformed".into()).into_response();
    };
    match timeout(LIMIT, talk(request)).await {
        Ok(Ok((code, text))) => (code, [(CONTENT_TYPE, "application/json")], text).into_response(),
        Ok(Err(why)) => away(why).into_response(),
        Err(_) => away(format!("no answer within {} s", LIMIT.as_secs())).into_response(),
    }
}

async fn talk(request: Request<Body>) -> Result<(StatusCode, String), String> {
    let stream = UnixStream::connect(Path::new(SOCKET)).await;
    let stream = stream.map_err(|error| format!("it cannot be reached: {error}"))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let carrier = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let code = answer.status();
    let body = axum::body::to_bytes(Body::new(answer.into_body()), LONGEST_ANSWER).await;
    carrier.abort();
    let body = body.map_err(|error| error.to_string())?;
    Ok((code, String::from_utf8_lossy(&body).into_owned()))
}
