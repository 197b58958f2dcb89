//! How much of the limit a boot on trial has used. Times are since the machine was started, by a clock that nobody sets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Verdict;

/// The time that counts. It runs from the start of the machine, and stands still while nothing can be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// What has counted until the last verdict.
    used: Duration,
    /// When that was.
    heard: Duration,
    /// Whether the time since then counts.
    counts: bool,
}

impl Spent {
    /// Of a boot in which nothing was judged yet: all of its time counts.
    pub fn new() -> Self {
        Self { used: Duration::ZERO, heard: Duration::ZERO, counts: true }
    }

    /// Takes notice of a verdict.
    pub fn hear(&mut self, now: Duration, verdict: &Verdict) {
        self.used = self.used(now);
        self.heard = now;
        self.counts = !matches!(verdict, Verdict::Inconclusive { .. });
    }

    /// How much has counted until now.
    pub fn used(&self, now: Duration) -> Duration {
        let since = if self.counts { now.saturating_sub(self.heard) } else { Duration::ZERO };
        self.used.saturating_add(since)
    }

    /// How much is left, if it goes on counting. Nothing: it is over.
    pub fn left(&self, limit: Duration, now: Duration) -> Duration {
        limit.saturating_sub(self.used(now))
    }
}

impl Default for Spent {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_time_stands_still_while_nothing_can_be_said() {
        let waiting = Verdict::Waiting { reasons: vec!["x".into()] };
        let gone = Verdict::Inconclusive { reason: "nobody".into() };
        let mut spent = Spent::new();
        assert_eq!(spent.used(at(20)), at(20), "the time before the first verdict counts");
        spent.hear(at(30), &waiting);
        spent.hear(at(100), &gone);
        assert_eq!(spent.used(at(100)), at(100));
        // A night without power in the switches.
        spent.hear(at(40_000), &gone);
        assert_eq!(spent.left(at(900), at(50_000)), at(800));
        spent.hear(at(50_000), &waiting);
        assert_eq!(spent.left(at(900), at(50_799)), at(1));
        assert_eq!(spent.left(at(900), at(60_000)), at(0));
    }

    #[test]
    fn a_program_that_starts_again_goes_on_where_it_was() {
        let mut spent = Spent::new();
        spent.hear(at(10), &Verdict::Inconclusive { reason: "nobody".into() });
        let text = serde_yaml::to_string(&spent).unwrap();
        let again: Spent = serde_yaml::from_str(&text).unwrap();
        assert_eq!(again, spent);
        assert_eq!(again.used(at(500)), at(10));
        // Time does not go back; if it did, nothing would be taken away.
        assert_eq!(Spent { counts: true, ..again }.used(at(5)), at(10));
    }
}
