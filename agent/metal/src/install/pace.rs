//! Pauses that grow: what has just failed fails again.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::poll::{PollTimeout, poll};

/// The first pause, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];

/// How long the next pause is.
pub(super) struct Pace(Duration);

impl Pace {
    pub(super) fn new() -> Self {
        Self(PAUSES[0])
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.0 = PAUSES[0];
    }

    /// The pause after a failure; the one after it is twice as long.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (self.0 * 2).min(PAUSES[1]);
        pause
    }
}

/// Waits so long. News does not end it: most of the news is of what was just tried.
pub(super) fn wait(pause: Duration) -> Result<()> {
    let timeout = PollTimeout::try_from(pause).context("a pause that is too long")?;
    poll(&mut [], timeout).context("cannot wait")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let mut pace = Pace::new();
        let seconds: Vec<_> = (0..8).map(|_| pace.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        pace.reset();
        assert_eq!(pace.next().as_secs(), 1);
    }
}
