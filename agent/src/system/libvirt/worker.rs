//! The thread that calls libvirt, one call after the other, and the thread that turns its events.
//!
//! A call may block for as long as the daemon does not answer: a stopped daemon is given up after three unanswered
//! keep-alives, one that has not accepted the connection yet never. So nobody waits here for longer than [`LIMIT`];
//! the thread goes on waiting, answers to nobody then, and takes no other call before. That is news, too.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use trilith_libvirt::{News, Session, turn_events};
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};

/// How long an answer may take. The daemon looks at QEMU when it starts, and answers nobody before it is done.
const LIMIT: Duration = Duration::from_secs(10);

/// Seconds between two keep-alives on a silent connection, and how many may stay unanswered.
const KEEP_ALIVE: (i32, u32) = (5, 3);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("it has not answered for {0} s")]
    Late(u64),
    #[error("{}", .0.message())]
    Refused(#[from] Error),
    #[error("cannot start a thread for libvirt")]
    Thread(#[source] io::Error),
    #[error("libvirt's events cannot be followed: {0}")]
    Deaf(String),
    #[error("the thread that calls libvirt has ended")]
    Ended,
}

type Call = Box<dyn FnOnce(&mut Line) + Send>;

/// The threads, started at the first call.
pub(super) struct Worker {
    uri: String,
    /// How long an answer may take.
    pub(super) limit: Duration,
    calls: Option<mpsc::Sender<Call>>,
    news: Arc<Notify>,
    /// The last call: when it was made, and what tells that it is over.
    last: Option<(Instant, oneshot::Receiver<()>)>,
}

/// The connection, in the thread's hands.
struct Line {
    uri: String,
    standing: Option<Standing>,
    news: Arc<Notify>,
}

/// A connection that was made.
struct Standing {
    session: Session,
    /// Whether libvirt has told of its end.
    ended: Arc<AtomicBool>,
}

impl Worker {
    pub(super) fn new(uri: String) -> Self {
        Self { uri, limit: LIMIT, calls: None, news: Arc::default(), last: None }
    }

    /// Notified when a machine changes, the connection ends, or a late answer has come.
    pub(super) fn news(&self) -> &Arc<Notify> {
        &self.news
    }

    /// Calls libvirt. Cancel-safe: what is dropped here goes on there, as a call that takes too long does.
    pub(super) async fn call<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&Connect) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, CallError> {
        if let Some((since, over)) = &mut self.last
            && over.try_recv() == Err(TryRecvError::Empty)
        {
            return Err(CallError::Late(since.elapsed().as_secs()));
        }
        let calls = self.calls()?;
        let (answer, answered) = oneshot::channel();
        // Its other end goes when the call is over, however it ends.
        let (ends, over) = oneshot::channel();
        self.last = Some((Instant::now(), over));
        let work = move |line: &mut Line| {
            let result = line.connected().and_then(call);
            drop(ends);
            if answer.send(result).is_err() {
                line.news.notify_one();
            }
        };
        // Into the void if the thread has ended, which `answered` tells.
        let _sent = calls.send(Box::new(work));
        match timeout(self.limit, answered).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) => {
                self.calls = None;
                Err(CallError::Ended)
            }
            Err(_) => Err(CallError::Late(self.limit.as_secs())),
        }
    }

    /// The way to the thread, which is started when there is none.
    fn calls(&mut self) -> Result<mpsc::Sender<Call>, CallError> {
        turn_events().map_err(CallError::Deaf)?;
        if let Some(calls) = &self.calls {
            return Ok(calls.clone());
        }
        let (calls, taken) = mpsc::channel::<Call>();
        let mut line = Line { uri: self.uri.clone(), standing: None, news: Arc::clone(&self.news) };
        let work = move || taken.into_iter().for_each(|call| call(&mut line));
        let thread = thread::Builder::new().name("libvirt".into());
        thread.spawn(work).map_err(CallError::Thread)?;
        Ok(self.calls.insert(calls).clone())
    }
}

impl Line {
    /// The connection, made anew when the last one has ended.
    fn connected(&mut self) -> Result<&Connect, Error> {
        let stands = |standing: &Standing| !standing.ended.load(Ordering::Acquire);
        let standing = match self.standing.take().filter(stands) {
            Some(standing) => standing,
            None => self.open()?,
        };
        Ok(self.standing.insert(standing).session.connect())
    }

    fn open(&self) -> Result<Standing, Error> {
        let ended = Arc::new(AtomicBool::new(false));
        let (news, end) = (Arc::clone(&self.news), Arc::clone(&ended));
        let listener = move |heard| {
            match heard {
                News::Machine { name, what } => info!(machine = name, "machine {name} {what}"),
                News::Secret => {}
                News::Closed(why) => {
                    warn!("the connection to libvirt has ended: {why}");
                    end.store(true, Ordering::Release);
                }
            }
            news.notify_one();
        };
        let session = Session::open(&self.uri, Box::new(listener))?;
        match session.connect().set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1) {
            // A driver without another end, such as the tests', has nothing to keep alive.
            Err(error) if error.code() != ErrorNumber::NoSupport => Err(error),
            Ok(_) | Err(_) => Ok(Standing { session, ended }),
        }
    }
}
