//! What a person sees while a build runs: one line per step, with the time since the start.

use std::time::Instant;

/// The clock of one build.
pub(crate) struct Progress(Instant);

impl Progress {
    /// Starts the clock.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Says what begins now.
    pub(crate) fn step(&self, what: &str) {
        eprintln!("[{:4} s] {what}", self.0.elapsed().as_secs());
    }

    /// Says that something made before is used again.
    pub(crate) fn kept(&self, what: &str) {
        self.step(&format!("{what}: kept from before"));
    }
}
