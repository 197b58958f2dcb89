//! Pauses between tries.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::poll::{PollTimeout, poll};
use trilith_core::pauses::Pauses;

/// From one second to a minute.
pub(super) fn pauses() -> Pauses {
    Pauses::new(Duration::from_secs(1), Duration::from_mins(1))
}

/// Waits so long. News does not end it: most of the news is of what was just tried.
pub(super) fn wait(pause: Duration) -> Result<()> {
    let timeout = PollTimeout::try_from(pause).context("a pause that is too long")?;
    poll(&mut [], timeout).context("cannot wait")?;
    Ok(())
}
