//! A machine's serial console: kept whole, waited on, never polled.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::command::tail;

/// How much of the console an error shows.
const TAIL_LINES: usize = 40;

/// What ends a machine for good, as the kernel says it. Waiting for anything else is over then.
const PANIC: &str = "Kernel panic - not syncing";

#[derive(Debug, Default)]
struct Text {
    said: String,
    /// The same with everything that moves a cursor.
    raw: Vec<u8>,
    ended: bool,
}

/// Everything a machine has said so far, as text without colours.
#[derive(Debug, Clone)]
pub struct Console {
    shared: Arc<(Mutex<Text>, Condvar)>,
}

impl Console {
    /// Reads `from` until its end, on a thread, and writes every byte to `log` as well.
    pub fn read(from: impl Read + Send + 'static, log: File) -> Self {
        let shared = Arc::new((Mutex::new(Text::default()), Condvar::new()));
        let console = Self { shared };
        let reader = console.clone();
        thread::spawn(move || reader.copy(from, log));
        console
    }

    fn copy(&self, mut from: impl Read, mut log: File) {
        let mut buffer = [0; 4096];
        // It keeps its state: an escape sequence may come in two pieces.
        let mut plain = strip_ansi_escapes::Writer::new(self.clone());
        while let Ok(size @ 1..) = from.read(&mut buffer) {
            // A full disk must not hide what the machine says; writing to ourselves cannot fail.
            let _written = log.write_all(&buffer[..size]);
            self.lock().raw.extend_from_slice(&buffer[..size]);
            let _written = plain.write_all(&buffer[..size]).and_then(|()| plain.flush());
        }
        self.lock().ended = true;
        self.shared.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Text> {
        self.shared.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where the console stands now: give it to [`Console::wait_after`] to see only what comes later.
    pub fn mark(&self) -> usize {
        self.lock().said.len()
    }

    /// Everything said since the mark.
    pub fn since(&self, mark: usize) -> String {
        self.lock().said.get(mark..).unwrap_or_default().to_owned()
    }

    /// Waits until the machine has said `pattern`, and returns the rest of that line so far.
    ///
    /// Fails at once when the machine ends or panics (unless that is what is waited for), and after
    /// `patience`; the error shows the last lines.
    pub fn wait(&self, pattern: &str, patience: Duration) -> Result<String> {
        self.wait_after(0, pattern, patience)
    }

    /// [`Console::wait`] for what is said after the mark.
    pub fn wait_after(&self, mark: usize, pattern: &str, patience: Duration) -> Result<String> {
        let deadline = Instant::now() + patience;
        let mut text = self.lock();
        loop {
            let news = text.said.get(mark..).unwrap_or_default();
            if let Some(at) = news.find(pattern) {
                return Ok(news[at..].lines().next().unwrap_or_default().to_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(why) = over(&text, news, left) {
                bail!(
                    "waiting for {pattern:?} on the console: {why}\n{}",
                    tail(&text.said, TAIL_LINES)
                );
            }
            text = self.pause(text, left);
        }
    }

    /// Tries until `attempt` gives a value: at first, and whenever the machine says something, at the latest
    /// every second. Between tries nothing is slept away: a machine that ends or panics ends the waiting.
    pub fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        self.try_until(what, (patience, over), attempt)
    }

    /// [`Console::until`] of a machine whose kernel may panic on the way, and that starts again then by itself.
    pub fn outlast<T>(
        &self,
        what: &str,
        patience: Duration,
        attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        self.try_until(what, (patience, |text, _, left| over(text, "", left)), attempt)
    }

    fn try_until<T>(
        &self,
        what: &str,
        (patience, over): (Duration, Over),
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        let mark = self.mark();
        loop {
            let error = match attempt() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let text = self.lock();
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(why) = over(&text, text.said.get(mark..).unwrap_or_default(), left) {
                bail!(
                    "waiting until {what}: {why}\nlast: {error:#}\n{}",
                    tail(&text.said, TAIL_LINES)
                );
            }
            drop(self.pause(text, left.min(Duration::from_secs(1))));
        }
    }

    /// Every byte that it has sent since this many.
    pub fn raw(&self, since: usize) -> Vec<u8> {
        self.lock().raw.get(since..).unwrap_or_default().to_vec()
    }

    fn pause<'a>(&self, text: MutexGuard<'a, Text>, at_most: Duration) -> MutexGuard<'a, Text> {
        let waited = self.shared.1.wait_timeout(text, at_most);
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    /// What has been said since the mark, as soon as there is something; nothing once the machine has ended.
    pub fn news(&self, mark: usize) -> Option<String> {
        let mut text = self.lock();
        while text.said.len() <= mark && !text.ended {
            text = self.pause(text, Duration::MAX);
        }
        text.said.get(mark..).filter(|news| !news.is_empty()).map(str::to_owned)
    }

    /// Waits until the machine's end, however long it takes.
    pub fn wait_end(&self) {
        let mut text = self.lock();
        while !text.ended {
            text = self.pause(text, Duration::MAX);
        }
    }
}

/// Takes text without escape sequences.
impl Write for Console {
    fn write(&mut self, plain: &[u8]) -> std::io::Result<usize> {
        self.lock().said.push_str(&String::from_utf8_lossy(plain));
        self.shared.1.notify_all();
        Ok(plain.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Tells why waiting makes no more sense, from all that was said, what is new of it, and the time that is left.
type Over = fn(&Text, &str, Duration) -> Option<&'static str>;

/// Why waiting makes no more sense, if so.
fn over(text: &Text, news: &str, left: Duration) -> Option<&'static str> {
    if text.ended {
        Some("the machine has ended")
    } else if news.contains(PANIC) {
        Some("the kernel panicked")
    } else if left.is_zero() {
        Some("out of patience")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn console() -> (Console, std::io::PipeWriter) {
        let (reader, writer) = pipe().unwrap();
        (Console::read(reader, tempfile::tempfile().unwrap()), writer)
    }

    #[test]
    fn a_pattern_is_found_without_its_colours_also_when_it_comes_in_pieces() {
        let (console, mut machine) = console();
        machine.write_all(b"\x1b[0;3").unwrap();
        machine.write_all(b"2m  OK  \x1b[0m trilithd: network converged\nnext").unwrap();
        assert_eq!(console.wait("network", SOON).unwrap(), "network converged");
    }

    #[test]
    fn a_mark_hides_what_came_before() {
        let (console, mut machine) = console();
        machine.write_all(b"login\n").unwrap();
        console.wait("login", SOON).unwrap();
        let mark = console.mark();
        assert!(console.wait_after(mark, "login", Duration::ZERO).is_err());
        machine.write_all(b"login again\n").unwrap();
        assert_eq!(console.wait_after(mark, "login", SOON).unwrap(), "login again");
    }

    #[test]
    fn an_end_and_a_panic_end_the_waiting() {
        let (console, machine) = console();
        drop(machine);
        let error = console.wait("login", SOON).unwrap_err().to_string();
        assert!(error.contains("the machine has ended"), "{error}");

        let (console, mut machine) = self::console();
        machine.write_all(b"Kernel panic - not syncing: dm-verity\n").unwrap();
        let error = console.wait("login", SOON).unwrap_err().to_string();
        assert!(error.contains("the kernel panicked"), "{error}");
        console.wait("dm-verity", SOON).unwrap();
    }

    #[test]
    fn a_panic_can_be_outlasted() {
        let (console, mut machine) = console();
        machine.write_all(b"Kernel panic - not syncing: no root\n").unwrap();
        console.wait("no root", SOON).unwrap();
        let mut tries = 0;
        let value = console.outlast("two", SOON, || {
            tries += 1;
            let _said = machine.write_all(b"Kernel panic - not syncing: again\n");
            if tries == 2 { Ok(tries) } else { bail!("only {tries}") }
        });
        assert_eq!(value.unwrap(), 2);
    }

    #[test]
    fn until_tries_again_and_shows_the_last_error() {
        let (console, _machine) = console();
        let mut tries = 0;
        let value = console.until("three", SOON, || {
            tries += 1;
            if tries == 3 { Ok(tries) } else { bail!("only {tries}") }
        });
        assert_eq!(value.unwrap(), 3);
        let error = console.until("never", Duration::ZERO, || -> Result<()> { bail!("no") });
        assert!(error.unwrap_err().to_string().contains("last: no"));
    }
}
