//! Pauses between tries: they grow, so that a whole rack that waits for its server does not keep it from starting.

use std::time::Duration;

use trilith_core::pauses::Pauses as Growing;

/// The first.
const FIRST: Duration = Duration::from_secs(1);
/// None is longer: a person may stand there.
const LONGEST: Duration = Duration::from_secs(30);

/// The next pause.
#[derive(Debug)]
pub(crate) struct Pauses(Growing);

impl Pauses {
    /// From the beginning.
    pub(crate) fn new() -> Self {
        Self(Growing::new(FIRST, LONGEST))
    }

    /// Something went forward: the next pause is short again.
    pub(crate) fn progress(&mut self) {
        self.0.reset();
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0.next_pause()).await;
    }
}
