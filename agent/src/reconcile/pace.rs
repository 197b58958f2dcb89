//! How fast passes may follow each other. Deterministic: one agent per node has nobody to step aside for, and
//! tests can say to the millisecond when the next pass comes.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause after a pass that did not converge.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause while not converged: what an operator waits for at most after mending something that
/// gives no event.
const LONGEST: Duration = Duration::from_secs(60);
/// The pause when converged. Events bring the loop back at once; this bounds what a lost event costs.
const CONVERGED: Duration = Duration::from_secs(600);
/// Passes that may follow each other without any space between them.
const BURST: u32 = 24;
/// After a burst, one pass per this time: a fight over the host costs at most two looks a second, and a repair
/// still comes within one.
const SPACING: Duration = Duration::from_millis(500);

/// Back-off after failure, and a bound on the passes per second whatever wakes the loop.
#[derive(Debug)]
pub(super) struct Pace {
    /// Passes in a row that did not converge.
    unsettled: u32,
    /// Passes in a row that applied steps.
    changes: u32,
    /// A token bucket by its "theoretical arrival time": how far passes have run ahead of one per `SPACING`.
    booked: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { unsettled: 0, changes: 0, booked: now }
    }

    /// The pause after a pass that found nothing to do.
    pub(super) fn converged(&mut self) -> Duration {
        self.fresh_start();
        CONVERGED
    }

    /// The pause after a pass that failed or is not enough: it doubles from a quarter of a second to a minute.
    pub(super) fn not_converged(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.unsettled.min(8)).min(LONGEST);
        self.unsettled = self.unsettled.saturating_add(1);
        self.changes = 0;
        pause
    }

    /// Counts a pass that applied steps, and says how many there were in a row.
    pub(super) fn changed(&mut self) -> u32 {
        self.changes = self.changes.saturating_add(1);
        self.changes
    }

    /// Forgets failures: the subject converged, or it is to become something else.
    pub(super) fn fresh_start(&mut self) {
        self.unsettled = 0;
        self.changes = 0;
    }

    /// Books the next pass and says from when on it may begin.
    pub(super) fn take_permit(&mut self, now: Instant) -> Instant {
        self.booked = self.booked.max(now) + SPACING;
        let ahead = SPACING * BURST;
        self.booked.checked_sub(ahead).map_or(now, |allowed| allowed.max(now))
    }
}
