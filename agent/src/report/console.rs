//! The machine's console: what a person in front of it, or on its serial line, needs to read.

use std::io::Write as _;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::log::Reader;

/// Messages that may wait for a slow line. A serial line that takes nothing loses the rest, the journal has it.
const WAITING: usize = 64;

/// The console, written by a thread of its own: a serial line may take a second for a screen of text, and the
/// agent has one thread for everything else.
#[derive(Clone)]
pub(crate) struct Console {
    messages: Option<SyncSender<String>>,
}

impl Console {
    /// The console behind standard output, where the unit file puts it; silent for a person at a terminal, who
    /// reads the log.
    pub(crate) fn start(reader: Reader) -> Self {
        if reader == Reader::Person {
            return Self { messages: None };
        }
        let (sender, receiver) = sync_channel::<String>(WAITING);
        let thread = std::thread::Builder::new().name("console".into()).stack_size(64 << 10);
        let started = thread.spawn(move || {
            let mut out = std::io::stdout();
            for message in receiver {
                // A console that is gone must not stop the agent; the journal has the same news.
                let _ = out.write_all(message.as_bytes()).and_then(|()| out.flush());
            }
        });
        Self { messages: started.is_ok().then_some(sender) }
    }

    /// Writes lines, each marked as the agent's. The carriage returns are for a console in raw mode.
    pub(crate) fn say(&self, text: &str) {
        if let Some(messages) = &self.messages {
            let marked = text.replace('\n', "\r\ntrilithd: ");
            let _ = messages.try_send(format!("trilithd: {marked}\r\n"));
        }
    }

    /// Writes lines as they are, for a person to copy.
    pub(crate) fn show(&self, text: &str) {
        if let Some(messages) = &self.messages {
            let _ = messages.try_send(text.replace('\n', "\r\n"));
        }
    }
}
