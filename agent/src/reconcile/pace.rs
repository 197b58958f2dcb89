//! How fast passes may follow each other, and how soon the same steps may be tried again.
//!
//! This is memory of what the loop did, never of what the host has: it delays, it decides nothing.
//! Deterministic: one agent per node has nobody to step aside for, and tests can say to the millisecond when
//! the next pass comes.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// The first pause after a pass that did not converge, and the first time that a step is held.
const FIRST: Duration = Duration::from_millis(250);
/// The longest of both: what an operator waits for at most after mending something that gives no event.
const LONGEST: Duration = Duration::from_mins(1);
/// The pause when converged. Events bring the loop back at once; this bounds what a lost event costs.
const CONVERGED: Duration = Duration::from_mins(10);
/// How long a step must not have been needed, nor held, until it is forgotten. A unit that dies a second after
/// each start is one trouble, not many.
const CALM: Duration = Duration::from_secs(10);
/// How often in a row a step that had helped is taken at once although it is needed again before it was calm:
/// somebody who tries something, a link that flaps a little. Only one more is a fight, and slows down.
const RELAPSES: u32 = 4;
/// Passes that may follow each other without any space between them.
const BURST: u32 = 24;
/// After a burst, one pass per this time: a host that changes without end costs two looks a second, and a
/// repair still comes within one.
const SPACING: Duration = Duration::from_millis(500);

/// How soon to look again, how soon to take each step again, and a bound on the passes per second whatever wakes
/// the loop.
///
/// Looks and steps have their own counts: a subject that waits for something for hours still mends at once what
/// breaks beside it, and so does one with a step that has been failing for hours.
#[derive(Debug)]
pub(super) struct Pace {
    /// Looks in a row that found only trouble and no step against it.
    stuck: u32,
    /// The steps that were taken and may not have lasted, by what people read of them.
    tried: BTreeMap<String, Trial>,
    /// A token bucket by its "theoretical arrival time": how far passes have run ahead of one per `SPACING`.
    booked: Instant,
}

/// What became of one step.
#[derive(Debug)]
struct Trial {
    /// Attempts in a row that did not last.
    attempts: u32,
    /// Until when it is not to be taken again.
    held: Instant,
    /// Since when no plan has needed it.
    idle: Option<Instant>,
    /// How often it was needed again although it had helped, in a row.
    relapses: u32,
}

impl Trial {
    fn new(now: Instant) -> Self {
        Self { attempts: 0, held: now, idle: None, relapses: 0 }
    }

    /// Whether it has lasted, so that the same step is a new trouble.
    fn is_over(&self, now: Instant) -> bool {
        self.idle.is_some_and(|since| now >= since.max(self.held) + CALM)
    }

    /// A plan needs it, or does not.
    fn look(&mut self, needed: bool, now: Instant) {
        if !needed {
            self.idle.get_or_insert(now);
        } else if self.idle.take().is_some() {
            self.relapses = self.relapses.saturating_add(1);
            if self.relapses <= RELAPSES {
                (self.attempts, self.held) = (0, now);
            }
        }
    }

    fn take(&mut self, now: Instant) {
        self.held = now + backoff(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
    }
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { stuck: 0, tried: BTreeMap::new(), booked: now }
    }

    /// The pause after a pass that found nothing to do.
    pub(super) fn converged(&mut self) -> Duration {
        self.stuck = 0;
        CONVERGED
    }

    /// The pause after a pass that could not look, or found trouble and no step against it: it doubles from a
    /// quarter of a second to a minute.
    pub(super) fn not_converged(&mut self) -> Duration {
        let pause = backoff(self.stuck);
        self.stuck = self.stuck.saturating_add(1);
        pause
    }

    /// A look says which steps are needed, perhaps none.
    pub(super) fn planned(&mut self, steps: &[impl Display], now: Instant) {
        let steps: Vec<_> = steps.iter().map(ToString::to_string).collect();
        self.tried.retain(|_, trial| !trial.is_over(now));
        for (step, trial) in &mut self.tried {
            trial.look(steps.contains(step), now);
        }
    }

    /// Until when a plan must wait because all of it was tried a moment ago. One step that need not wait is
    /// progress, and then none does.
    pub(super) fn hold(&self, steps: &[impl Display], now: Instant) -> Option<Instant> {
        let held = |step: String| self.tried.get(&step).map_or(now, |trial| trial.held);
        let first = steps.iter().map(|step| held(step.to_string())).min()?;
        (first > now).then_some(first)
    }

    /// Remembers what was tried; the same again has to wait, each time longer. The host has changed, so the next
    /// looks are worth it.
    pub(super) fn applied(&mut self, steps: &[impl Display], now: Instant) {
        for step in steps {
            self.tried.entry(step.to_string()).or_insert_with(|| Trial::new(now)).take(now);
        }
        self.stuck = 0;
    }

    /// When the first of the steps that are still needed may be taken again.
    pub(super) fn held(&self, now: Instant) -> Instant {
        let needed = self.tried.values().filter(|trial| trial.idle.is_none());
        needed.map(|trial| trial.held).min().unwrap_or(now)
    }

    /// Forgets all troubles: the subject is to become something else.
    pub(super) fn fresh_start(&mut self) {
        self.stuck = 0;
        self.tried.clear();
    }

    /// Books the next pass and says from when on it may begin.
    pub(super) fn take_permit(&mut self, now: Instant) -> Instant {
        self.booked = self.booked.max(now) + SPACING;
        let ahead = SPACING * BURST;
        self.booked.checked_sub(ahead).map_or(now, |allowed| allowed.max(now))
    }
}

/// The pause after so many vain attempts before it.
fn backoff(attempts: u32) -> Duration {
    FIRST.saturating_mul(1 << attempts.min(8)).min(LONGEST)
}
