//! The machine's console: what a person in front of it, or on its serial line, needs to read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

use nix::fcntl::OFlag;

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
    /// The console of a node; silent for a person at a terminal, who reads the log.
    pub(crate) fn start(reader: Reader) -> Self {
        if reader == Reader::Person {
            return Self { messages: None };
        }
        let (sender, receiver) = sync_channel::<String>(WAITING);
        let thread = std::thread::Builder::new().name("console".into()).stack_size(64 << 10);
        let started = thread.spawn(move || {
            for message in receiver {
                // A machine without a console, or one that is gone, must not stop the agent: the journal has
                // the same news.
                let _ = write(&message);
            }
        });
        Self { messages: started.is_ok().then_some(sender) }
    }

    /// Writes lines, each marked as the agent's.
    pub(crate) fn say(&self, text: &str) {
        self.show(&format!("trilithd: {}\n", text.replace('\n', "\ntrilithd: ")));
    }

    /// Writes lines as they are, for a person to copy.
    pub(crate) fn show(&self, text: &str) {
        if let Some(messages) = &self.messages {
            let _ = messages.try_send(text.to_owned());
        }
    }
}

/// Where the status screens (`trilith-console`) say on which consoles they are, in a folder for each.
const SCREENS: &str = "/run/trilith-console";
/// The consoles of the kernel; the last of them is /dev/console.
const CONSOLES: &str = "/sys/class/tty/console/active";
/// The virtual console in sight, which `tty0` stands for.
const IN_SIGHT: &str = "/sys/class/tty/tty0/active";

/// Writes on the console; not on one that shows a status screen, which says it all and more.
fn write(message: &str) -> io::Result<()> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    if has_screen(Path::new(SCREENS), &read(CONSOLES), &read(IN_SIGHT)) {
        return Ok(());
    }
    open()?.write_all(message.as_bytes())
}

fn has_screen(screens: &Path, consoles: &str, in_sight: &str) -> bool {
    let last = consoles.split_whitespace().next_back().unwrap_or_default();
    let tty = if last == "tty0" { in_sight.trim() } else { last };
    !tty.is_empty() && screens.join(tty).join("screen").exists()
}

/// Opened for each message, as the kernel may give the console to another device meanwhile, and without making
/// it this process's controlling terminal, whose end would be a SIGHUP.
fn open() -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(OFlag::O_NOCTTY.bits()).open("/dev/console")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_with_a_screen_is_left_alone() {
        let screens = tempfile::TempDir::new().unwrap();
        let show = |tty: &str| {
            fs::create_dir(screens.path().join(tty)).unwrap();
            fs::write(screens.path().join(tty).join("screen"), "").unwrap();
        };
        let left = |consoles: &str| has_screen(screens.path(), consoles, "tty1\n");
        show("tty1");
        assert!(left("tty0\n") && !left("tty0 ttyS0\n") && !left(""));
        assert!(!has_screen(screens.path(), "tty0\n", "tty2\n"));
        show("ttyS0");
        assert!(left("tty0 ttyS0\n") && !left("tty0 ttyS1\n"));
    }
}
