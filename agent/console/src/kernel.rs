//! Messages of the kernel. It writes them on every console, in the middle of whatever is there, and nothing should stop
//! it from that: the last words of a machine are worth more than a tidy screen. So the screen is painted anew after
//! each.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::sleep;

/// What comes together is painted over together.
const GATHER: Duration = Duration::from_millis(300);

/// Hears the kernel's log, by a thread of its own.
pub(crate) struct Kernel {
    records: Receiver<()>,
    /// It spoke, and that was not told yet.
    heard: bool,
}

impl Kernel {
    /// Hears what is said from now on. That takes the right to read the kernel's log; without it the screen is painted
    /// anew by a key (Ctrl-L).
    pub(crate) fn listen() -> Self {
        let (sender, receiver) = channel(1);
        let log =
            File::open("/dev/kmsg").and_then(|mut log| log.seek(SeekFrom::End(0)).map(|_| log));
        std::thread::spawn(move || log.map(|log| hear(log, &sender)));
        Self { records: receiver, heard: false }
    }

    /// Resolves a moment after it has written something. Cancel-safe: what was heard stays to be told.
    pub(crate) async fn spoke(&mut self) {
        if !self.heard {
            if self.records.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
            self.heard = true;
        }
        sleep(GATHER).await;
        while self.records.try_recv().is_ok() {}
        self.heard = false;
    }
}

/// Tells of each record, until nobody wants to know.
fn hear(mut log: File, sender: &Sender<()>) {
    let mut record = [0; 8192];
    while !sender.is_closed() {
        match log.read(&mut record) {
            Ok(0) => return,
            // Some were overwritten (Documentation/ABI/testing/dev-kmsg).
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return,
            // A full channel says it already.
            _ => drop(sender.try_send(())),
        }
    }
}
