//! Whether there is a terminal at the other end, and how large it is.

use std::io::{self, IsTerminal as _, stdin, stdout};

use crossterm::cursor::{MoveTo, position};
use crossterm::event::{Event, KeyEventKind, read};
use crossterm::execute;
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

/// Smaller is no screen to show anything on; larger is an answer that is not one.
const SIZES: (std::ops::RangeInclusive<u16>, std::ops::RangeInclusive<u16>) = (40..=500, 10..=200);

/// No key is echoed, and no line waited for, until it is dropped.
pub(crate) struct Raw(());

impl Raw {
    /// Fails where there is no terminal.
    pub(crate) fn mode() -> io::Result<Self> {
        enable_raw_mode().map(|()| Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // It fails only for a terminal that is gone.
        let _ = disable_raw_mode();
    }
}

/// Whether a screen can be shown here, now. The size of a virtual console is known to the kernel; at the end of a serial
/// line there is a terminal if one answers, and then the line is told its size.
pub(crate) fn answers() -> bool {
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    if dumb || !stdin().is_terminal() || !stdout().is_terminal() {
        return false;
    }
    let fits = |columns, rows| SIZES.0.contains(&columns) && SIZES.1.contains(&rows);
    if tcgetwinsize(stdout()).is_ok_and(|size| fits(size.ws_col, size.ws_row)) {
        return true;
    }
    measure().is_ok_and(|(columns, rows)| fits(columns, rows) && tell(columns, rows))
}

/// Sends the cursor as far as it goes and asks where it is; no answer within 2 s is an error. Costs one line of text
/// with four control sequences where it is only recorded.
fn measure() -> io::Result<(u16, u16)> {
    execute!(stdout(), MoveTo(998, 998))?;
    let (column, row) = position()?;
    Ok((column.saturating_add(1), row.saturating_add(1)))
}

fn tell(columns: u16, rows: u16) -> bool {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(stdout(), size).is_ok()
}

/// Forgets what a line was told: another terminal may come.
pub(crate) fn forget() {
    let _ = tcsetwinsize(stdout(), Winsize { ws_col: 0, ws_row: 0, ws_xpixel: 0, ws_ypixel: 0 });
}

/// Waits until somebody presses a key.
pub(crate) fn wait_for_key() -> io::Result<()> {
    loop {
        if matches!(read()?, Event::Key(key) if key.kind == KeyEventKind::Press) {
            return Ok(());
        }
    }
}
