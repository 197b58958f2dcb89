//! `trilith-console TTY`: the status screen of a node on one of its consoles, virtual or serial.
//!
//! It reads from the agent's socket and can do one thing beside that: end with [`REBOOT`], upon which its unit starts
//! the machine again. Nobody logs in here, so there is nothing else to be done here.
//!
//! Where nobody is at the other end it stays silent, and the agent writes its news as plain lines. A terminal is told
//! by its answer: one that is asked where its cursor stands says so. A serial line that is only recorded never does, so
//! what reads a console as text goes on reading text; a person who comes later presses a key.

mod ask; // what the agent says
mod kernel; // messages that the kernel writes across the screen
mod keys; // what a key does
mod run; // the screen as it lives
mod terminal; // whether there is one, and how large
mod view; // from what is known to lines and cells

use std::process::ExitCode;

/// How it ends when a person wants the machine to start again. The unit knows the number.
const REBOOT: u8 = 63;

/// How it ends.
enum End {
    /// The terminal is gone.
    Gone,
    /// The machine is to start again.
    Reboot,
}

fn main() -> ExitCode {
    let Some(tty) = std::env::args().nth(1) else {
        eprintln!("usage: trilith-console TTY, with the terminal as its input and output");
        return ExitCode::from(2);
    };
    match run::run(&tty) {
        Ok(End::Gone) => ExitCode::SUCCESS,
        Ok(End::Reboot) => ExitCode::from(REBOOT),
        Err(error) => {
            eprintln!("trilith-console: {error:#}");
            ExitCode::FAILURE
        }
    }
}
