//! Ceph's monitors, asked by `trilith-rados`, which says why it is a program of its own.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;
use trilith_core::names::{NodeId, NodeName};
use trilith_core::pools::answer::Reply;
use trilith_core::wave::health::Ceph;
use trilith_core::wave::monitors::{self, AnswerError};

/// The program.
const PROGRAM: &str = "/usr/lib/trilith/trilith-rados";
/// Whose key it is: every node has it, and it may do no more than look and what is asked for here.
const USER: &str = "trilith";
/// How long it may take. Without a quorum of monitors librados would wait for ever.
const LIMIT: Duration = Duration::from_secs(20);

/// Why nothing is known, or nothing was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CephError {
    #[error("cannot start {PROGRAM}: {0}")]
    Start(#[from] std::io::Error),
    #[error("the monitors do not answer within {} s", LIMIT.as_secs())]
    Late,
    #[error("the monitors do not answer: {0}")]
    Failed(String),
    #[error("an answer of the monitors is not understood: {0}")]
    Form(#[from] serde_json::Error),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error("the monitors refuse: {0}")]
    Refused(String),
}

/// Of which hosts to ask whether all OSDs may stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Of this one.
    Only(NodeId),
    /// Of each.
    All,
}

/// How Ceph stands, and whether the OSDs of hosts may stop.
pub(crate) async fn look(
    hosts: Hosts,
    names: &BTreeMap<NodeName, NodeId>,
) -> Result<Ceph, CephError> {
    let (mut ceph, osds) = monitors::read(ask(&monitors::questions()).await?, names)?;
    let meant = |id: NodeId| hosts == Hosts::All || hosts == Hosts::Only(id);
    let asked: Vec<_> = osds.iter().filter(|(id, own)| meant(**id) && !own.is_empty()).collect();
    if asked.is_empty() {
        return Ok(ceph);
    }
    let questions: Vec<Value> = asked.iter().map(|(_, own)| monitors::may_stop(own)).collect();
    let replies = ask(&questions).await?;
    for ((id, _), reply) in asked.iter().zip(&replies) {
        ceph.stop.insert(**id, monitors::objection(reply));
    }
    Ok(ceph)
}

/// Sets `noout` for a host, or takes it back.
pub(crate) async fn noout(host: &NodeName, set: bool) -> Result<(), CephError> {
    match ask(&[monitors::noout(host, set)]).await?.pop() {
        Some(Reply::Refusal(why)) => Err(CephError::Refused(why)),
        Some(Reply::Answer(_)) => Ok(()),
        None => Err(AnswerError::Missing.into()),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
async fn ask(commands: &[Value]) -> Result<Vec<Reply>, CephError> {
    let mut command = Command::new(PROGRAM);
    command.arg(USER).args(commands.iter().map(Value::to_string));
    command.env_clear().env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.map_err(|_| CephError::Late)??;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(CephError::Failed(said));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
