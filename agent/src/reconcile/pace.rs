//! How fast passes may follow each other, and how soon the same steps may be tried again.
//!
//! This is memory of what the loop did, never of what the host has: it delays, it decides nothing.
//! Deterministic: one agent per node has nobody to step aside for, and tests can say to the millisecond when
//! the next pass comes.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// The first pause after a pass that did not converge.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause while not converged: what an operator waits for at most after mending something that
/// gives no event.
const LONGEST: Duration = Duration::from_mins(1);
/// The pause when converged. Events bring the loop back at once; this bounds what a lost event costs.
const CONVERGED: Duration = Duration::from_mins(10);
/// How long a subject must stay converged until its earlier troubles are forgotten. A unit that dies a second
/// after each start is one trouble, not many.
const CALM: Duration = Duration::from_secs(10);
/// Relapses in a row that are mended at once: somebody who tries something, a link that flaps a little. Only
/// one more is a fight, and slows down.
const RELAPSES: u32 = 4;
/// Passes that may follow each other without any space between them.
const BURST: u32 = 24;
/// After a burst, one pass per this time: a host that changes without end costs two looks a second, and a
/// repair still comes within one.
const SPACING: Duration = Duration::from_millis(500);

/// Back-off after failure, and a bound on the passes per second whatever wakes the loop.
#[derive(Debug)]
pub(super) struct Pace {
    /// Attempts in a row that did not lead to a lasting convergence.
    unsettled: u32,
    /// The steps of these attempts.
    tried: BTreeSet<String>,
    /// Until when they are not to be tried again.
    hold: Option<Instant>,
    /// How often the subject did not stay converged for the calm time, in a row.
    relapses: u32,
    /// Since when the plan has been empty.
    converged: Option<Instant>,
    /// A token bucket by its "theoretical arrival time": how far passes have run ahead of one per `SPACING`.
    booked: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            unsettled: 0,
            tried: BTreeSet::new(),
            hold: None,
            relapses: 0,
            converged: None,
            booked: now,
        }
    }

    /// The pause after a pass that found nothing to do.
    pub(super) fn converged(&mut self, now: Instant) -> Duration {
        self.converged.get_or_insert(now);
        CONVERGED
    }

    /// The pause after a pass that failed or is not enough: it doubles from a quarter of a second to a minute.
    pub(super) fn not_converged(&mut self) -> Duration {
        let pause = self.backoff();
        self.unsettled = self.unsettled.saturating_add(1);
        pause
    }

    /// A look found something that is not as desired. After a calm time that is a new trouble.
    pub(super) fn unrest(&mut self, now: Instant) {
        let Some(since) = self.converged.take() else { return };
        let relapses = self.relapses.saturating_add(1);
        if now.saturating_duration_since(since) >= CALM {
            self.fresh_start();
        } else if relapses <= RELAPSES {
            self.fresh_start();
            self.relapses = relapses;
        }
    }

    /// Until when a plan must wait because all of it was tried a moment ago. One new step is progress, and
    /// nothing waits.
    pub(super) fn hold(&self, steps: &[impl Display], now: Instant) -> Option<Instant> {
        let again = steps.iter().all(|step| self.tried.contains(&step.to_string()));
        self.hold.filter(|until| again && now < *until)
    }

    /// Remembers what was tried; the same again has to wait, each time longer.
    pub(super) fn applied(&mut self, steps: &[impl Display], now: Instant) {
        let before = self.tried.len();
        self.tried.extend(steps.iter().map(ToString::to_string));
        if self.tried.len() == before {
            self.unsettled = self.unsettled.saturating_add(1);
        }
        self.hold = Some(now + self.backoff());
    }

    /// Until when the steps that were tried last are held.
    pub(super) fn held(&self, now: Instant) -> Instant {
        self.hold.unwrap_or(now)
    }

    /// Forgets all troubles: the subject is to become something else.
    pub(super) fn fresh_start(&mut self) {
        self.unsettled = 0;
        self.tried.clear();
        self.hold = None;
        self.relapses = 0;
        self.converged = None;
    }

    /// Books the next pass and says from when on it may begin.
    pub(super) fn take_permit(&mut self, now: Instant) -> Instant {
        self.booked = self.booked.max(now) + SPACING;
        let ahead = SPACING * BURST;
        self.booked.checked_sub(ahead).map_or(now, |allowed| allowed.max(now))
    }

    fn backoff(&self) -> Duration {
        FIRST.saturating_mul(1 << self.unsettled.min(8)).min(LONGEST)
    }
}
