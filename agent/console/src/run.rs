//! The screen as it lives: events in, at most a few paintings a second out, and none while nothing changes.

use std::fs;
use std::io::{Stdout, stdout};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use crossterm::cursor::Hide;
use crossterm::event::{Event, read};
use crossterm::execute;
use crossterm::terminal::{Clear, ClearType};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::sleep;

use crate::End;
use crate::ask::{News, fill, follow_status};
use crate::kernel::Kernel;
use crate::keys::{Deed, press};
use crate::terminal::{Raw, answers, forget, wait_for_key};
use crate::view::{Page, Screen, draw};

/// A full screen takes a fifth of a second on a serial line of 115200 baud: what changes within this time is shown
/// together.
const GATHER: Duration = Duration::from_millis(250);
/// News that may wait for a slow line.
const WAITING: usize = 64;

/// Shows the screen as soon as there is somebody to see it, until the terminal is gone or the machine is to reboot.
pub(crate) fn run(tty: &str) -> Result<End> {
    let _raw = Raw::mode().context("there is no terminal")?;
    while !answers() {
        if wait_for_key().is_err() {
            return Ok(End::Gone);
        }
    }
    let shown = Shown::mark(tty);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = LocalSet::new().block_on(&runtime, live());
    // The thread that reads keys has no other end.
    runtime.shutdown_background();
    drop(shown);
    forget();
    end
}

/// Tells the agent that this console shows a screen, on which it must not write its lines.
struct Shown(Option<PathBuf>);

impl Shown {
    fn mark(tty: &str) -> Self {
        // Made by systemd for this unit, and removed with it.
        let folder = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
        let mark = folder.map(|folder| folder.join("screen"));
        Self(mark.filter(|mark| fs::write(mark, tty).is_ok()))
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(mark) = &self.0 {
            let _ = fs::remove_file(mark);
        }
    }
}

type Paper = Terminal<CrosstermBackend<Stdout>>;

/// An empty screen. Not by [`Terminal::clear`], which asks the terminal where its cursor is, while [`keys`] reads all that
/// the terminal says.
fn blank() -> Result<Paper> {
    execute!(stdout(), Clear(ClearType::All), Hide)?;
    Ok(Terminal::new(CrosstermBackend::new(stdout()))?)
}

/// The screen and what fills it.
struct Life {
    paper: Paper,
    screen: Screen,
    filler: Option<JoinHandle<()>>,
    news: tokio::sync::mpsc::Sender<News>,
}

async fn live() -> Result<End> {
    let (news, mut incoming) = channel(WAITING);
    spawn_local(follow_status(news.clone()));
    let mut keys = keys();
    let mut kernel = Kernel::listen();
    let mut life = Life { paper: blank()?, screen: Screen::default(), filler: None, news };
    life.draw()?;
    loop {
        // Cancel safety: receivers and the kernel's log keep what was not taken.
        tokio::select! {
            Some(one) = incoming.recv() => {
                life.take(one);
                // What follows closely is shown together.
                sleep(GATHER).await;
                while let Ok(one) = incoming.try_recv() {
                    life.take(one);
                }
                life.draw()?;
            }
            event = keys.recv() => match event {
                None => return Ok(End::Gone),
                Some(event) => if let Some(end) = life.event(&event)? { return Ok(end) },
            },
            () = kernel.spoke() => life.repaint()?,
        }
    }
}

/// The terminal's events, read by a thread: there is no other way to wait for them that every terminal has.
fn keys() -> Receiver<Event> {
    let (sender, receiver) = channel(WAITING);
    std::thread::spawn(move || {
        while let Ok(event) = read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Life {
    fn take(&mut self, news: News) {
        match news {
            News::Status(status) => self.screen.set_status(*status),
            News::Silent(reason) => self.screen.set_silent(reason),
            News::Page(page, lines) => self.screen.set_lines(page, lines),
            News::Logged(lines) => self.screen.add_lines(lines),
        }
    }

    fn event(&mut self, event: &Event) -> Result<Option<End>> {
        let deed = match event {
            Event::Key(key) => press(&mut self.screen, *key),
            Event::Resize(..) => Deed::Repaint,
            _ => Deed::Nothing,
        };
        match deed {
            Deed::Nothing => {}
            Deed::Draw => self.draw()?,
            Deed::Repaint => self.repaint()?,
            Deed::Turn(page) => self.turn(page)?,
            Deed::Reboot => {
                // What the machine says while it goes down stands on an empty screen; without one it goes down too.
                let _ = blank();
                return Ok(Some(End::Reboot));
            }
        }
        Ok(None)
    }

    fn turn(&mut self, page: Page) -> Result<()> {
        if let Some(filler) = self.filler.take() {
            filler.abort();
        }
        self.screen.turn(page);
        self.filler = Some(spawn_local(fill(page, self.news.clone())));
        self.draw()
    }

    fn draw(&mut self) -> Result<()> {
        self.paper.draw(|frame| draw(frame, &mut self.screen))?;
        Ok(())
    }

    fn repaint(&mut self) -> Result<()> {
        self.paper = blank()?;
        self.draw()
    }
}
