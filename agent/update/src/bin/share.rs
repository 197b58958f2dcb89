//! `trilith-share`: gives the other nodes of the cluster what is in this node's slots. Releases are public, and whoever gets
//! them checks them; so nothing is asked here but which stretch. The agent passes on who may ask (mutual TLS), and has no
//! right to read a disk; this has no right to anything but to read slots, and no network. It ends when nobody asks any more,
//! and its socket starts it again.
//!
//! `GET /v1/releases` is what there is ([`trilith_core::update::peers::Shared`]); `GET /v1/releases/ROOT HASH/root` and
//! `…/tree`, with a range, are stretches of it.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, RANGE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use trilith_core::boot::RootHash;
use trilith_core::update::peers::{Held, RELEASES, Run, Shared};
use trilith_metal::block::Devices;
use trilith_metal::held;

/// How long nobody may ask before it ends.
const IDLE: Duration = Duration::from_mins(1);
/// How long one answer may take, with the time that it waits for its turn.
const LIMIT: Duration = Duration::from_mins(1);
/// So many may ask at a time,
const MOST: usize = 32;
/// and so many are given something; the others wait. What the node itself does comes first.
const TURNS: usize = 4;
/// How many bytes each of them gets in a second: together half of what a slow disk or a link of one gigabit carries.
const RATE: u64 = 16 << 20;
/// How much is read at a time.
const PIECE: u64 = 256 << 10;

type Body = UnsyncBoxBody<Bytes, io::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The unit's standard error is the journal.
            eprintln!("trilith-share: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned().context("no standard input")?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true).context("standard input is no socket")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(serve(listener))
}

async fn serve(listener: std::os::unix::net::UnixListener) -> Result<()> {
    let listener = UnixListener::from_std(listener).context("standard input is no socket")?;
    let turns = Arc::new(Semaphore::new(TURNS));
    let mut guests = JoinSet::new();
    loop {
        // Cancel safety: both say of themselves that they are; who comes while it ends waits at the socket.
        tokio::select! {
            accepted = timeout(IDLE, listener.accept()) => match accepted {
                Ok(accepted) => {
                    let (stream, _) = accepted.context("cannot accept")?;
                    if guests.len() < MOST {
                        guests.spawn(guest(stream, Arc::clone(&turns)));
                    }
                }
                Err(_) if guests.is_empty() => return Ok(()),
                Err(_) => {}
            },
            Some(_) = guests.join_next() => {}
        }
    }
}

async fn guest(stream: UnixStream, turns: Arc<Semaphore>) {
    let service = service_fn(|request| {
        let turns = Arc::clone(&turns);
        async move { Ok::<_, Infallible>(answer(&request, turns).await) }
    });
    let talk = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // One that breaks, or takes too long, is news for its other end.
    let _ = timeout(LIMIT, talk).await;
}

async fn answer(request: &Request<Incoming>, turns: Arc<Semaphore>) -> Response<Body> {
    let given = match request.uri().path().strip_prefix(RELEASES) {
        Some("") => list(),
        Some(path) => give(path, request, turns).await,
        None => Err((StatusCode::NOT_FOUND, "there is nothing else here".into())),
    };
    given.unwrap_or_else(|(code, reason)| {
        let mut refusal = Response::new(text(reason));
        *refusal.status_mut() = code;
        refusal
    })
}

fn text(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

/// Why nothing is given.
type Refusal = (StatusCode, String);

/// Whoever asks is no part of it.
fn failed(error: impl std::fmt::Display) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
}

fn list() -> Result<Response<Body>, Refusal> {
    let held = held::all(&Devices::here()).map_err(failed)?;
    let roots = held.into_iter().map(|it| it.root_hash).collect();
    let shared = serde_json::to_string(&Shared { roots, fetching: None }).map_err(failed)?;
    Ok(Response::new(text(shared)))
}

async fn give(
    path: &str,
    request: &Request<Incoming>,
    turns: Arc<Semaphore>,
) -> Result<Response<Body>, Refusal> {
    let named = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    let named = named.and_then(|(root, part)| {
        Some((RootHash::try_from(root.to_owned()).ok()?, part.parse::<Held>().ok()?))
    });
    let (root_hash, part) =
        named.ok_or_else(|| (StatusCode::BAD_REQUEST, "this names no part of a release".into()))?;
    let range = request.headers().get(RANGE).and_then(|range| range.to_str().ok());
    let run = range.and_then(Run::of_header);
    let run =
        run.ok_or_else(|| (StatusCode::RANGE_NOT_SATISFIABLE, "one range is given".into()))?;
    let turn = turns.acquire_owned().await.map_err(failed)?;
    // What is there is looked at now: the turn may have come late.
    let held = held::all(&Devices::here()).map_err(failed)?;
    let held = held.into_iter().find(|it| it.root_hash == root_hash);
    let held = held.ok_or_else(|| (StatusCode::NOT_FOUND, "it is in no slot here".into()))?;
    let device = match part {
        Held::Root => held.root,
        Held::Tree => held.tree,
    };
    let file = File::open(&device);
    let file = file.map_err(|error| failed(format!("{}: {error}", device.display())))?;
    let begun = Instant::now();
    let reading = Reading { file, run, done: 0, begun, _turn: turn };
    let body = StreamBody::new(stream::try_unfold(reading, Reading::next)).boxed_unsync();
    let answer = Response::builder().status(StatusCode::PARTIAL_CONTENT);
    answer.header(CONTENT_LENGTH, run.size).body(body).map_err(failed)
}

/// A stretch while it is given.
struct Reading {
    file: File,
    run: Run,
    done: u64,
    begun: Instant,
    _turn: OwnedSemaphorePermit,
}

impl Reading {
    /// The next bytes, no earlier than the rate allows.
    async fn next(mut self) -> io::Result<Option<(Frame<Bytes>, Self)>> {
        if self.done == self.run.size {
            return Ok(None);
        }
        let due = Duration::from_micros(self.done.saturating_mul(1_000_000) / RATE);
        sleep_until(self.begun + due).await;
        let length = PIECE.min(self.run.size - self.done);
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, self.run.from + self.done)?;
        self.done += length;
        Ok(Some((Frame::data(bytes.into()), self)))
    }
}
