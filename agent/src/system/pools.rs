//! The pools' adapter: the whole of Ceph, as its monitors say, asked by the coordinator whose monitor leads.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use trilith_core::ceph::Ceph;
use trilith_core::pools::{Desired, Observed, Pools, Replaced, Step, answer, is_missed, questions};
use trilith_core::status::NodeStatus;
use trilith_core::subject::Subject as _;

use super::rados::{self, RadosError};
use crate::reconcile::{Host, HostError};
use crate::wake;

/// Who may change pools: a coordinator has this key.
const USER: &str = "admin";

/// How often the monitors are asked when nothing is known to have changed: of what befalls the cluster they tell
/// nobody who is not connected to them all the time.
const AGAIN: Duration = Duration::from_secs(30);

/// The whole of Ceph.
pub(crate) struct Storage {
    /// What this node says of itself: whether its monitor leads.
    status: watch::Receiver<NodeStatus>,
    /// What the last look saw of that.
    leads: bool,
    /// When it looks again.
    again: Option<Instant>,
    requests: u64,
}

impl Storage {
    /// Looks at nothing yet.
    pub(crate) fn new(status: watch::Receiver<NodeStatus>) -> Self {
        Self { status, leads: false, again: None, requests: 0 }
    }

    fn count(&mut self, requests: usize) {
        self.requests = self.requests.saturating_add(u64::try_from(requests).unwrap_or(u64::MAX));
    }
}

fn leads(status: &NodeStatus) -> bool {
    let subject = status.subjects.get(Ceph::NAME);
    subject.is_some_and(|ceph| ceph.details.role.as_deref() == Some("leader"))
}

impl Host<Pools> for Storage {
    async fn observe(&mut self, desired: &Desired) -> Result<Observed, HostError> {
        self.leads = leads(&self.status.borrow_and_update());
        self.again = self.leads.then(|| Instant::now() + AGAIN);
        if !self.leads {
            return Ok(Observed::default());
        }
        let questions = questions(desired);
        self.count(questions.len());
        let replies = rados::ask(USER, &questions).await?;
        let mut cluster = answer::cluster(desired, replies)?;
        let missed = cluster.replaced.iter_mut().filter(|(_, state)| **state == Replaced::Missed);
        for (osd, state) in missed {
            self.requests = self.requests.saturating_add(1);
            match rados::order(USER, &is_missed(*osd)).await {
                Ok(()) => *state = Replaced::Free,
                Err(RadosError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Observed { cluster: Some(cluster) })
    }

    async fn apply(&mut self, step: &Step) -> Result<(), HostError> {
        self.count(1);
        Ok(rados::order(USER, &step.command()).await?)
    }

    async fn changed(&mut self) {
        let led = self.leads;
        // Cancel safety: both say of themselves that they are, and the moment does not move.
        tokio::select! {
            () = wake::becomes(&mut self.status, |status| leads(status) != led) => {}
            () = wake::at(self.again) => {}
        }
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}
