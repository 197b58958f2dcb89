//! What the operator sees and says: a table that is drawn anew when something happens, or plain lines where there is no
//! terminal.

use std::io::{BufRead as _, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::page;
use super::server::Office;
use crate::config::print;

/// The table is drawn at most so often: downloads go on all the time.
const PACE: Duration = Duration::from_millis(500);

/// How many of the last events stand below the table.
const LAST: usize = 10;

/// To the upper left corner, and everything cleared.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Lines from standard input, which a thread of its own reads: there is no other way to stop waiting for one.
pub(crate) fn typed() -> UnboundedReceiver<String> {
    let (sender, lines) = unbounded_channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        { lines }.try_for_each(|line| sender.send(line))
    });
    lines
}

/// What is on the screen.
pub(crate) struct Page {
    office: Arc<Office>,
    title: String,
    terminal: bool,
    last: Vec<String>,
    drawn: Option<Instant>,
    /// The visits that plain lines were written of: whether they were of a node.
    seen: Vec<bool>,
}

impl Page {
    /// An empty one.
    pub(crate) fn new(office: &Arc<Office>, url: &str) -> Self {
        let title = format!("{} at {url}", office.release.manifest.release);
        let terminal = std::io::stdout().is_terminal();
        // The title is news.
        office.news.notify_one();
        let office = Arc::clone(office);
        Self { office, title, terminal, last: Vec::new(), drawn: None, seen: Vec::new() }
    }

    /// Waits until something is to be drawn.
    pub(crate) async fn due(&self) {
        self.office.news.notified().await;
        if let Some(drawn) = self.drawn.filter(|_| self.terminal) {
            // Left half-way, it would forget that there is news.
            let again = Again(&self.office);
            tokio::time::sleep_until(drawn + PACE).await;
            std::mem::forget(again);
        }
    }

    /// Draws it.
    pub(crate) fn draw(&mut self) -> Result<()> {
        let first = self.drawn.replace(Instant::now()).is_none();
        let mut ledger = self.office.ledger();
        let told = std::mem::take(&mut ledger.told);
        if self.terminal {
            self.last.extend(told);
            self.last.drain(..self.last.len().saturating_sub(LAST));
            return print(&format!("{CLEAR}{}", page::text(&self.title, &ledger, &self.last)));
        }
        let mut text = if first { format!("{}\n", self.title) } else { String::new() };
        for line in told {
            text.push_str(&line);
            text.push('\n');
        }
        for (at, visit) in ledger.desk.visits().iter().enumerate() {
            let is_node = visit.node.is_ok();
            if self.seen.get(at).is_none_or(|was_node| is_node && !was_node) {
                text.push_str(&page::entry(at + 1, visit));
            }
        }
        self.seen = ledger.desk.visits().iter().map(|visit| visit.node.is_ok()).collect();
        print(&text)
    }
}

/// Says once more that there is news, unless it is forgotten.
struct Again<'a>(&'a Office);

impl Drop for Again<'_> {
    fn drop(&mut self) {
        self.0.news.notify_one();
    }
}
