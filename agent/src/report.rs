//! The node's status: one value, and everything shown is a view of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tracing::{info, warn};
use trilith_core::status::{BundleStatus, NodeIdentity, NodeStatus, State, SubjectStatus};
use trilith_core::subject::Plan;

/// The one status value. Cheap to clone; every clone writes to the same value.
#[derive(Clone)]
pub(crate) struct Report {
    status: Arc<watch::Sender<NodeStatus>>,
}

impl Report {
    /// The status of an agent that has just started.
    pub(crate) fn new(subjects: &[&str]) -> Self {
        let now = unix_now();
        let waiting =
            |name: &&str| ((*name).to_owned(), SubjectStatus::waiting("the node bundle", now));
        let status = NodeStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            node: None,
            bundle: BundleStatus::default(),
            subjects: subjects.iter().map(waiting).collect(),
        };
        Self { status: Arc::new(watch::Sender::new(status)) }
    }

    /// Every change of the status from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<NodeStatus> {
        self.status.subscribe()
    }

    /// Says who the node is and where that stands.
    pub(crate) fn set_bundle(&self, node: Option<NodeIdentity>, bundle: BundleStatus) {
        self.status.send_if_modified(|status| {
            let news = status.node != node || status.bundle != bundle;
            (status.node, status.bundle) = (node, bundle);
            news
        });
    }

    /// The part of one subject's loop.
    pub(crate) fn subject(&self, name: &'static str) -> SubjectReport {
        SubjectReport { name, status: Arc::clone(&self.status), others: self.status.subscribe() }
    }
}

/// What one subject's loop says.
pub(crate) struct SubjectReport {
    name: &'static str,
    status: Arc<watch::Sender<NodeStatus>>,
    others: watch::Receiver<NodeStatus>,
}

impl SubjectReport {
    /// Whether a subject has converged since the agent started. An unknown one never has.
    pub(crate) fn has_converged(&mut self, name: &str) -> bool {
        self.others
            .borrow_and_update()
            .subjects
            .get(name)
            .is_some_and(|subject| subject.has_converged)
    }

    /// Resolves when any part of the status changed since [`Self::has_converged`] looked. Cancel-safe: the
    /// change stays unseen until then.
    pub(crate) async fn others_changed(&mut self) {
        if self.others.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Prints a plan before its first step.
    pub(crate) fn planned<S: std::fmt::Display>(&mut self, plan: &Plan<S>) {
        for step in &plan.steps {
            info!(subject = self.name, %step, "{}: plan: {step}", self.name);
        }
        // A subject that keeps failing stays `retry` while it tries: one state with one `since`.
        self.update(|status| {
            let fresh = !matches!(status.state, State::Retry { .. });
            fresh.then_some(State::Running)
        });
    }

    /// Counts a step that was carried out.
    pub(crate) fn applied(&mut self, step: &impl std::fmt::Display) {
        info!(subject = self.name, %step, "{}: done: {step}", self.name);
        self.update(|status| {
            status.steps_applied = status.steps_applied.saturating_add(1);
            None
        });
    }

    /// Counts a pass.
    pub(crate) fn passed(&mut self, took: Duration) {
        self.update(|status| {
            status.passes = status.passes.saturating_add(1);
            status.last_pass_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            None
        });
    }

    /// Says where the subject stands.
    pub(crate) fn set(&mut self, state: State) {
        self.update(|_| Some(state));
    }

    /// Changes this subject's status and logs a new state once.
    fn update(&mut self, change: impl FnOnce(&mut SubjectStatus) -> Option<State>) {
        let name = self.name;
        self.status.send_if_modified(|status| {
            let Some(subject) = status.subjects.get_mut(name) else { return false };
            let before = subject.clone();
            if let Some(state) = change(subject) {
                enter(name, subject, state);
            }
            *subject != before
        });
    }
}

/// Puts a subject into a state; `since` stays while it is the same news.
fn enter(name: &str, subject: &mut SubjectStatus, state: State) {
    subject.has_converged |= state == State::Converged;
    if !subject.state.same_news(&state) {
        subject.since = unix_now();
        match &state {
            State::Degraded { .. } | State::Retry { .. } => {
                warn!(subject = name, state = state.name(), "{name}: {state}");
            }
            State::Waiting { .. } | State::Running | State::Converged => {
                info!(subject = name, state = state.name(), "{name}: {state}");
            }
        }
    }
    subject.state = state;
}

/// The wall clock, in seconds since 1970-01-01 UTC: for people to read, never compared with another machine's.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
