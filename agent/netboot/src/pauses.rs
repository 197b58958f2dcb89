//! Pauses between tries: they grow, so that a whole rack that waits for its server does not keep it from starting.

use std::time::Duration;

/// The first.
const FIRST: Duration = Duration::from_secs(1);
/// None is longer: a person may stand there.
const LONGEST: Duration = Duration::from_secs(30);

/// The next pause.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Pauses {
    /// From the beginning.
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// Something went forward: the next pause is short again.
    pub(crate) fn progress(&mut self) {
        self.0 = FIRST;
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        let pause = self.next();
        tokio::time::sleep(pause).await;
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_to_a_bound() {
        let mut pauses = Pauses::new();
        let seconds: Vec<u64> = (0..7).map(|_| pauses.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        pauses.progress();
        assert_eq!(pauses.next(), FIRST);
    }
}
