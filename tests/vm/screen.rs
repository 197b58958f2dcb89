//! The status screen on the serial line, seen by a terminal that answers as terminals do.

use std::fs;
use std::io::Write as _;
use std::num::NonZeroU16;

use anyhow::{Result, ensure};
use trilith_tests::artifact;
use trilith_tests::machine::{BOOT, Machine, REACTION};
use trilith_tests::node::Node;

/// The size of a terminal at the end of a serial line: 24 rows, 80 columns.
const SIZE: [NonZeroU16; 2] =
    [NonZeroU16::MIN.saturating_add(23), NonZeroU16::MIN.saturating_add(79)];
/// Fewer pixels than these are no page of text.
const TEXT: usize = 2000;
/// How a terminal is asked where its cursor is, after it was sent to the far corner (ECMA-48, DSR).
const WHERE: &[u8] = b"\x1b[6n";
/// What it answers (CPR).
const HERE: &[u8] = b"\x1b[24;80R";

/// A terminal at the end of a machine's serial line, with a person at it.
pub(crate) struct Terminal<'a> {
    machine: &'a mut Machine,
    name: &'a str,
    /// How much the line had carried when the terminal came.
    start: usize,
}

impl<'a> Terminal<'a> {
    /// Comes to a line that carries text until then, since nobody answered on it: presses a key until somebody asks for
    /// the terminal's size, and answers.
    pub(crate) fn attach(machine: &'a mut Machine, name: &'a str) -> Result<Self> {
        let console = machine.console().clone();
        let start = console.raw(0).len();
        let mut terminal = Self { machine, name, start };
        let mut answered = 0;
        console.until("the status screen comes", BOOT, || {
            let asked = console.raw(start).windows(WHERE.len()).filter(|it| *it == WHERE).count();
            terminal.press(if asked > answered { HERE } else { b"\r" })?;
            answered = asked;
            let seen = terminal.screen();
            ensure!(seen.contains("l logs"), "{seen}");
            Ok(())
        })?;
        Ok(terminal)
    }

    pub(crate) fn press(&mut self, keys: &[u8]) -> Result<()> {
        let keyboard = self.machine.keyboard()?;
        keyboard.write_all(keys)?;
        Ok(keyboard.flush()?)
    }

    /// Waits until these words are on the screen, and those not.
    pub(crate) fn shows(&self, words: &[&str], without: &str) -> Result<()> {
        let what = format!("the screen shows {words:?}");
        self.machine.console().until(&what, REACTION, || {
            let seen = self.screen();
            ensure!(words.iter().all(|word| seen.contains(word)), "{seen}");
            ensure!(without.is_empty() || !seen.contains(without), "{seen}");
            Ok(())
        })
    }

    /// What is on the screen now.
    fn screen(&self) -> String {
        let [rows, columns] = SIZE;
        let mut parser = vt100::Parser::new(rows, columns, 0);
        parser.process(&self.machine.console().raw(self.start));
        parser.screen().contents()
    }

    /// Waits until the machine starts again.
    pub(crate) fn wait_reset(&mut self) -> Result<()> {
        self.machine.wait_reset(REACTION)
    }

    /// For people who look at it afterwards.
    pub(crate) fn keep(&self, page: &str) -> Result<()> {
        let path = artifact::machines()?.join(format!("{}.{page}.txt", self.name));
        Ok(fs::write(path, self.screen() + "\n")?)
    }

    /// The virtual console, as a picture.
    pub(crate) fn picture(&mut self) -> Result<()> {
        let path = artifact::machines()?.join(format!("{}.screen.png", self.name));
        let console = self.machine.console().clone();
        console.until("there is text on the virtual console", REACTION, || {
            let lit = self.machine.lit()?;
            self.machine.screenshot(&path)?;
            ensure!(lit > TEXT, "{lit} pixels are lit, see {}", path.display());
            Ok(())
        })?;
        eprintln!("the virtual console: {}", path.display());
        Ok(())
    }
}

/// Every page, and what the kernel writes across them.
pub(crate) fn the_console_shows_the_node(node: &mut Node<'_>) -> Result<()> {
    let kernel = "echo '<3>words across the screen' >/dev/kmsg";
    let mut ssh = node.ssh_command()?;
    let mut terminal = Terminal::attach(node.machine(), "hv1")?;
    let status = ["hv1 (ID 1) of cluster home", "network     converged", "zookeeper", "l logs"];
    terminal.shows(&status, "")?;
    terminal.keep("status")?;
    for (key, word, page) in [
        (b"l", "trilithd", "logs"),
        (b"n", "routing sessions", "net"),
        (b"d", "vda", "disks"),
        (b"r", "Start this machine again?", "reboot"),
    ] {
        terminal.press(key)?;
        terminal.shows(&[word], "")?;
        terminal.keep(page)?;
    }
    terminal.press(b"x")?;
    terminal.shows(&status, "")?;
    trilith_tests::command::run(ssh.arg(kernel))?;
    terminal.machine.console().wait("words across the screen", REACTION)?;
    terminal.shows(&status, "words across")?;
    terminal.picture()?;
    terminal.machine.press_keys(&["alt", "f2"])?;
    let console = terminal.machine.console().clone();
    console.until("another virtual console has a screen too", REACTION, || {
        node.ssh("test -e /run/trilith-console/tty2/screen")
    })?;
    eprintln!("what the screens cost:\n{}", node.ssh(COST)?);
    Ok(())
}

/// Resident memory of each screen, what of it is its own, and the processor's time since it came.
const COST: &str = "for pid in $(pgrep --exact trilith-console); do tr '\\0' ' ' </proc/$pid/cmdline; \
    grep -E 'VmRSS|RssAnon' /proc/$pid/status | tr -s '\\t\\n' ' '; ps -o time=,etime= -p $pid; done";
