//! The FRR adapter: its daemons are asked by vtysh, which is how FRR lets itself be asked.
//!
//! Nothing tells when a session changes, so they are asked anew at a calm interval, and at once when another agent
//! comes or goes: one run of vtysh in [`PERIOD`] in the steady state.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use trilith_core::frr::{Desired, Frr, Observed, answer};
use trilith_core::names::NodeId;

use super::exec::{self, ExecError};
use crate::peers::{View, Views};
use crate::reconcile::{Host, HostError, chain};
use crate::wake;

/// How often the daemons are asked when nothing else brings a look.
const PERIOD: Duration = Duration::from_secs(30);

/// A session takes about half a KiB for each kind of routes: enough for the thousand nodes of the largest cluster.
const LONGEST: usize = 4 << 20;

/// A session's age is counted by one clock and told by another: two looks differ by a second.
const BLUR: u64 = 2;

/// The node's routing.
pub(crate) struct Router {
    views: watch::Receiver<Views>,
    /// Which agents answered at the last look.
    present: BTreeMap<NodeId, bool>,
    /// Since when each session is established, as told first.
    since: BTreeMap<IpAddr, u64>,
    /// When the daemons are asked again.
    due: Option<Instant>,
    requests: u64,
}

impl Router {
    /// Looks at nothing yet.
    pub(crate) fn new(views: watch::Receiver<Views>) -> Self {
        let (present, since) = (BTreeMap::new(), BTreeMap::new());
        Self { views, present, since, due: None, requests: 0 }
    }

    async fn look(&mut self) -> Observed {
        self.present = present(&self.views.borrow_and_update());
        self.requests = self.requests.saturating_add(1);
        let mut observed = sessions().await;
        self.steady(&mut observed);
        self.due = Some(Instant::now() + PERIOD);
        observed
    }

    /// Tells of the same session the same second as before.
    fn steady(&mut self, observed: &mut Observed) {
        let before = std::mem::take(&mut self.since);
        let Observed::Sessions(sessions) = observed else { return };
        for (address, session) in sessions {
            let Some(since) = &mut session.since else { continue };
            *since = before
                .get(address)
                .copied()
                .filter(|old| old.abs_diff(*since) <= BLUR)
                .unwrap_or(*since);
            self.since.insert(*address, *since);
        }
    }
}

/// Every session that the daemons know.
pub(crate) async fn sessions() -> Observed {
    let args: Vec<&str> = answer::QUESTIONS.iter().flat_map(|it| ["-c", it]).collect();
    match exec::answer("vtysh", &args, LONGEST).await {
        Ok(text) => answer::parse(&text),
        // What it says is the news, not how it ended.
        Err(ExecError::Failed { said, .. }) if !said.is_empty() => Observed::Away(said.join(", ")),
        Err(error) => Observed::Away(chain(&error).to_string()),
    }
}

fn present(views: &Views) -> BTreeMap<NodeId, bool> {
    views.iter().map(|(id, view)| (*id, matches!(view, View::Reachable { .. }))).collect()
}

impl Host<Frr> for Router {
    async fn observe(&mut self, _desired: &Desired) -> Result<Observed, HostError> {
        Ok(self.look().await)
    }

    async fn apply(&mut self, step: &std::convert::Infallible) -> Result<(), HostError> {
        match *step {}
    }

    async fn changed(&mut self) {
        let before = &self.present;
        // Cancel safety: both say of themselves that they are, and the moment does not move.
        tokio::select! {
            () = wake::becomes(&mut self.views, |now| present(now) != *before) => {}
            () = wake::at(self.due) => {}
        }
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}
