//! What the agent says, over its socket.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;
use trilith_core::diagnosis::disks::{self, Disk};
use trilith_core::diagnosis::journal::Line;
use trilith_core::diagnosis::net::Net;
use trilith_core::status::NodeStatus;

use crate::view::Page;

/// Where the agent listens.
const SOCKET: &str = "/run/trilith/agent.sock";
/// The pause before an agent that is away is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// So much of the journal can be looked back at.
const LINES: u32 = 500;

/// What came.
pub(crate) enum News {
    /// The status, as often as it changes.
    Status(Box<NodeStatus>),
    /// The agent does not answer, for this reason.
    Silent(String),
    /// What a page shows, from the beginning.
    Page(Page, Vec<String>),
    /// A further line of the journal.
    Logged(Vec<String>),
}

/// Follows the status until nobody listens.
pub(crate) async fn follow_status(to: Sender<News>) {
    loop {
        let silent = match stream("/v1/status/news", |line| News::status(&line), &to).await {
            Ok(()) => "the agent starts again".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if to.send(News::Silent(silent)).await.is_err() {
            return;
        }
        sleep(AGAIN).await;
    }
}

/// Fetches what a page shows; of the journal, for ever.
pub(crate) async fn fill(page: Page, to: Sender<News>) {
    let lines = match page {
        Page::Status | Page::Reboot => return,
        Page::Logs => {
            let path = format!("/v1/logs?lines={LINES}&follow=true");
            let line = |json: String| {
                let line: Line = serde_json::from_str(&json).ok()?;
                Some(News::Logged(line.to_string().lines().map(Into::into).collect()))
            };
            stream(&path, line, &to).await.map(|()| Vec::new())
        }
        Page::Net => {
            whole("/v1/net").await.and_then(|it| Ok(serde_json::from_slice::<Net>(&it)?.lines()))
        }
        Page::Disks => whole("/v1/disks").await.and_then(|it| {
            let disks: Vec<Disk> = serde_json::from_slice(&it)?;
            Ok(disks::lines(&disks))
        }),
    };
    let lines = lines.unwrap_or_else(|error| vec![format!("the agent does not answer: {error:#}")]);
    let _ = to.send(News::Page(page, lines)).await;
}

impl News {
    fn status(json: &str) -> Option<Self> {
        Some(Self::Status(Box::new(serde_json::from_str(json).ok()?)))
    }
}

/// Passes on each line of an answer, until its end or until nobody listens.
async fn stream(
    path: &str,
    read: impl Fn(String) -> Option<News>,
    to: &Sender<News>,
) -> Result<()> {
    let mut body = ask(path).await?;
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the answer breaks off")?;
        rest.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let Some(news) = read(String::from_utf8_lossy(&line).into_owned()) else { continue };
            if to.send(news).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn whole(path: &str) -> Result<Bytes> {
    Ok(ask(path).await?.collect().await.context("the answer breaks off")?.to_bytes())
}

async fn ask(path: &str) -> Result<Incoming> {
    let stream = UnixStream::connect(SOCKET).await.context("the agent is away")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    // Ends with the answer, or with who reads it.
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    let request = Request::get(path).header(HOST, "trilith").body(Empty::new())?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status().is_success(), "it answers {}", answer.status());
    Ok(answer.into_body())
}
