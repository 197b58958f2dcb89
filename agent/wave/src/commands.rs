//! What operators ask and say. The agent passes it on, and has judged who they are; only root reaches the socket.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use trilith_core::wave::command::{Command, Said, Speaker};
use trilith_core::wave::settings::PATH;
use trilith_core::wave::{View, Wish};

/// What is asked or said, and whoever waits for the answer.
pub(crate) enum Order {
    /// How the cluster stands.
    Look(oneshot::Sender<Result<View, String>>),
    /// A command.
    Say(Command, Speaker, oneshot::Sender<Result<Wish, Unsaid>>),
}

/// Why a command has not become the wish.
pub(crate) enum Unsaid {
    /// It makes no sense now, whomever one asks.
    Refused(String),
    /// ZooKeeper cannot be asked from here.
    Away(String),
}

type Orders = mpsc::Sender<Order>;

/// Listens, for root alone.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// Answers until the program stops.
pub(crate) async fn serve(listener: UnixListener, orders: Orders) -> io::Result<()> {
    let routes = Router::new().route(PATH, get(give).post(take)).with_state(orders);
    axum::serve(listener, routes).await
}

fn away() -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, "the wave is stopping".to_owned())
}

async fn give(State(orders): State<Orders>) -> Result<Json<View>, (StatusCode, String)> {
    let (answer, answered) = oneshot::channel();
    orders.send(Order::Look(answer)).await.map_err(|_| away())?;
    let view = answered.await.map_err(|_| away())?;
    view.map(Json).map_err(|why| (StatusCode::SERVICE_UNAVAILABLE, why))
}

async fn take(
    State(orders): State<Orders>,
    Json(said): Json<Said>,
) -> Result<Json<Wish>, (StatusCode, String)> {
    let Said { command, who } = said;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (answer, answered) = oneshot::channel();
    let order = Order::Say(command, Speaker { who, at }, answer);
    orders.send(order).await.map_err(|_| away())?;
    let wish = answered.await.map_err(|_| away())?;
    wish.map(Json).map_err(|unsaid| match unsaid {
        Unsaid::Refused(why) => (StatusCode::CONFLICT, why),
        Unsaid::Away(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    })
}
