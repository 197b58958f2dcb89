//! What the gate says of a release on trial (agent/gate), passed on: to people, and to the other nodes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;
use trilith_core::gate::{RUN, STATE, Said, Stand};

use crate::reconcile::chain;
use crate::report::Report;
use crate::system::files::{self, Watched};

/// How long until it is read again where nothing can tell that it has changed.
const AGAIN: Duration = Duration::from_mins(1);

/// Passes it on until the agent stops.
pub(super) async fn follow(report: Report) -> anyhow::Result<()> {
    let path = Path::new(RUN).join(STATE);
    let mut watched = Watched::default();
    loop {
        let listens = watched.on([PathBuf::from(&path)]);
        report.set_trial(read(&path));
        match listens {
            Ok(_) => watched.changed().await,
            Err(error) => {
                warn!(error = %chain(&error), "cannot follow what the gate says");
                sleep(AGAIN).await;
            }
        }
    }
}

/// `None`: it has nothing to say, as in most boots.
fn read(path: &Path) -> Option<Said> {
    let said = files::read(path).ok().flatten()?;
    let said = Said::parse(&said.text).inspect_err(|error| {
        warn!(path = %path.display(), %error, "what the gate says is not understood");
    });
    said.ok().filter(|said| said.stand != Stand::Old || !said.failed.is_empty())
}
