//! QEMU's control socket (QMP): commands, answers, events.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take to answer. It answers from its main loop, which a busy host delays.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
struct Inbox {
    answers: Vec<Value>,
    events: Vec<Value>,
    closed: bool,
}

/// A connection to one machine.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    shared: Arc<(Mutex<Inbox>, Condvar)>,
}

impl Qmp {
    /// Connects and leaves QMP's first, wordless mode.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to QEMU at {}", socket.display()))?;
        let shared = Arc::new((Mutex::new(Inbox::default()), Condvar::new()));
        let reader = (stream.try_clone()?, Arc::clone(&shared));
        thread::spawn(move || receive(BufReader::new(reader.0), &reader.1));
        let mut qmp = Self { stream, shared };
        qmp.command("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns its result.
    pub fn command(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        let line = json!({ "execute": name, "arguments": arguments }).to_string() + "\n";
        self.stream
            .write_all(line.as_bytes())
            .with_context(|| format!("QEMU does not take {name}"))?;
        let answer = self.take(PATIENCE, |inbox| inbox.answers.pop());
        let answer = answer.with_context(|| format!("no answer to {name}"))?;
        match answer.get("error") {
            Some(error) => bail!("{name} {arguments}: {error}"),
            None => Ok(answer["return"].clone()),
        }
    }

    /// Waits until an event has come for which `accept` holds, also if it came before this call.
    pub fn wait_event(
        &self,
        what: &str,
        patience: Duration,
        accept: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        self.take(patience, |inbox| inbox.events.iter().find(|event| accept(event)).cloned())
            .with_context(|| format!("waiting for {what} from QEMU"))
    }

    /// The names of all events so far, in order.
    pub fn events(&self) -> Vec<String> {
        let inbox = lock(&self.shared.0);
        inbox.events.iter().filter_map(|event| event["event"].as_str().map(String::from)).collect()
    }

    /// Forgets the events so far, so that the next [`Qmp::wait_event`] sees only new ones.
    pub fn forget_events(&mut self) {
        lock(&self.shared.0).events.clear();
    }

    fn take<T>(&self, patience: Duration, pick: impl Fn(&mut Inbox) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + patience;
        let mut inbox = lock(&self.shared.0);
        loop {
            if let Some(found) = pick(&mut inbox) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if inbox.closed {
                bail!("QEMU has closed the connection");
            }
            if left.is_zero() {
                bail!("nothing in {patience:?}");
            }
            let waited = self.shared.1.wait_timeout(inbox, left);
            inbox = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

fn lock(inbox: &Mutex<Inbox>) -> MutexGuard<'_, Inbox> {
    inbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn receive(reader: impl BufRead, shared: &(Mutex<Inbox>, Condvar)) {
    for line in reader.lines() {
        let Ok(line) = line else { break };
        let message: Value = serde_json::from_str(&line).unwrap_or_default();
        let mut inbox = lock(&shared.0);
        if message.get("event").is_some() {
            inbox.events.push(message);
        } else if message.get("return").is_some() || message.get("error").is_some() {
            inbox.answers.push(message);
        } // else the greeting
        drop(inbox);
        shared.1.notify_all();
    }
    lock(&shared.0).closed = true;
    shared.1.notify_all();
}
