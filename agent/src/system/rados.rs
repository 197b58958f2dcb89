//! Commands to Ceph's monitors, by librados in a process of its own (`trilith-rados`, which says why).

use serde_json::{Value, json};
use trilith_core::pools::answer::Reply;

use super::exec::{self, ExecError};
use crate::reconcile::chain;

/// The program.
const PROGRAM: &str = "/usr/lib/trilith/trilith-rados";

/// Why the monitors were not asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum RadosError {
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error("its answer is not understood")]
    Answer(#[from] serde_json::Error),
    #[error("the monitors refuse it: {0}")]
    Refused(String),
}

/// Puts commands to the monitors as this user (`admin`, `trilith`), over one connection.
pub(super) async fn ask(user: &str, commands: &[Value]) -> Result<Vec<Reply>, RadosError> {
    let arguments = [user.to_owned()].into_iter().chain(commands.iter().map(Value::to_string));
    let output = exec::run(PROGRAM, &arguments.collect::<Vec<_>>()).await?;
    output.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Why these OSDs of a node may not stop now, all at once; `None`: all data stays available without them.
pub(super) async fn objection(user: &str, osds: &[String]) -> Option<String> {
    let command = json!({ "prefix": "osd ok-to-stop", "ids": osds, "format": "json" });
    let refused = order(user, &command).await.err()?;
    Some(chain(&refused).to_string())
}

/// Puts one order to the monitors. A refusal is an error.
pub(super) async fn order(user: &str, command: &Value) -> Result<(), RadosError> {
    let mut replies = ask(user, std::slice::from_ref(command)).await?;
    match replies.pop() {
        Some(Reply::Refusal(reason)) => Err(RadosError::Refused(reason)),
        Some(Reply::Answer(_)) | None => Ok(()),
    }
}
