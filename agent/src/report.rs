//! The node's status: one value, and everything shown is a view of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use console::Console;
use manager::Manager;
use tokio::sync::watch;
use tracing::{debug, info, warn};
use trilith_core::gate::Said;
use trilith_core::status::text;
use trilith_core::status::{
    BundleStatus, Details, NodeIdentity, NodeStatus, PeerStatus, State, SubjectStatus,
};
use trilith_core::subject::Plan;
use trilith_core::update;

use crate::reconcile::After;
use crate::system::boot;
use crate::wake;

pub(crate) mod console; // the machine's console
pub(crate) mod log; // where log lines go
pub(crate) mod manager; // readiness, status line and watchdog, for systemd

/// The one status value. Cheap to clone; every clone writes to the same value.
#[derive(Clone)]
pub(crate) struct Report {
    status: Arc<watch::Sender<NodeStatus>>,
}

impl Report {
    /// The status of an agent that has just started.
    pub(crate) fn new() -> Self {
        let status = NodeStatus {
            version: boot::release().unwrap_or_else(|| env!("CARGO_PKG_VERSION").into()),
            node: None,
            bundle: BundleStatus::default(),
            subjects: BTreeMap::new(),
            peers: BTreeMap::new(),
            addresses: Vec::new(),
            sighting: None,
            installation: None,
            trial: None,
            update: None,
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
            if node.is_some() {
                status.sighting = None;
            }
            (status.node, status.bundle) = (node, bundle);
            news
        });
    }

    /// Says which machine this is, while nobody has said who it is.
    pub(crate) fn set_sighting(&self, text: &str) {
        self.status.send_if_modified(|status| {
            let old = status.sighting.replace(text.to_owned());
            old != status.sighting
        });
    }

    /// Says where the installation stands, if the node is being installed.
    pub(crate) fn set_installation(&self, text: Option<String>) {
        self.status.send_if_modified(|status| {
            let news = status.installation != text;
            status.installation = text;
            news
        });
    }

    /// Passes on what the gate says.
    pub(crate) fn set_trial(&self, said: Option<Said>) {
        self.status.send_if_modified(|status| {
            let news = status.trial != said;
            status.trial = said;
            news
        });
    }

    /// Says where the node's updates stand.
    pub(crate) fn set_update(&self, update: Option<update::State>) {
        self.status.send_if_modified(|status| {
            let news = status.update != update;
            status.update = update;
            news
        });
    }

    /// Says where the node is reached.
    pub(crate) fn set_addresses(&self, addresses: Vec<String>) {
        self.status.send_if_modified(|status| {
            let news = status.addresses != addresses;
            status.addresses = addresses;
            news
        });
    }

    /// Says which other agents answer.
    pub(crate) fn set_peers(&self, peers: BTreeMap<String, PeerStatus>) {
        self.status.send_if_modified(|status| {
            let news = status.peers != peers;
            status.peers = peers;
            news
        });
    }

    /// The part of one subject's loop, which is in the status from now on.
    pub(crate) fn subject(&self, name: &'static str) -> SubjectReport {
        let waiting = || SubjectStatus::waiting("the node bundle", unix_now());
        self.status.send_modify(|status| {
            status.subjects.entry(name.into()).or_insert_with(waiting);
        });
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
    /// Whether another subject is as far as this one needs it to be.
    pub(crate) fn may_start(&mut self, after: After) -> bool {
        let status = self.others.borrow_and_update();
        match after {
            After::Nothing => true,
            After::Settled(name) => {
                status.subjects.get(name).is_some_and(|subject| subject.has_settled)
            }
            After::Converged(name) => {
                status.subjects.get(name).is_some_and(|subject| subject.has_converged)
            }
        }
    }

    /// Resolves when any part of the status changed since [`Self::may_start`] looked. Cancel-safe: the
    /// change stays unseen until then.
    pub(crate) async fn others_changed(&mut self) {
        wake::changed(&mut self.others).await;
    }

    /// Prints a plan before its first step.
    pub(crate) fn planned<S: std::fmt::Display>(&mut self, plan: &Plan<S>) {
        for step in &plan.steps {
            info!(subject = self.name, %step, "{}: plan: {step}", self.name);
        }
        // A subject in trouble stays so while it tries: one state with one `since`.
        self.update(|status| match status.state {
            State::Waiting { .. } | State::Running | State::Converged => Some(State::Running),
            State::Degraded { .. } | State::Retry { .. } => None,
        });
    }

    /// Counts a step that was carried out.
    pub(crate) fn applied(&mut self, step: &impl std::fmt::Display) {
        debug!(subject = self.name, %step, "{}: done: {step}", self.name);
        self.update(|status| {
            status.steps_applied = status.steps_applied.saturating_add(1);
            None
        });
    }

    /// Counts a pass, and keeps how much has been asked of the service so far.
    pub(crate) fn passed(&mut self, took: Duration, requests: u64) {
        self.update(|status| {
            status.requests = requests;
            status.passes = status.passes.saturating_add(1);
            status.last_pass_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            None
        });
    }

    /// Says what a look showed beyond the state.
    pub(crate) fn details(&mut self, details: Details) {
        self.update(|status| {
            status.details = details;
            None
        });
    }

    /// A pass failed; the next one comes after `pause` if nothing brings it sooner.
    pub(crate) fn retry(&mut self, error: String, pause: Duration) {
        self.set(State::Retry { error, at: unix_now().saturating_add(pause.as_secs()) });
    }

    /// A plan is held back for `pause` because all of it was tried a moment ago. Why that did not help is the
    /// best news, then what the plan itself knows to be in the way.
    pub(crate) fn hold<S: std::fmt::Display>(&mut self, plan: Plan<S>, pause: Duration) {
        let at = unix_now().saturating_add(pause.as_secs());
        self.update(|status| match &status.state {
            State::Retry { error, at: _ } => Some(State::Retry { error: error.clone(), at }),
            _ if !plan.problems.is_empty() => Some(State::Degraded { problems: plan.problems }),
            State::Degraded { .. } => None,
            State::Waiting { .. } | State::Running | State::Converged => {
                let steps: Vec<_> = plan.steps.iter().map(ToString::to_string).collect();
                Some(State::Retry { error: format!("does not last: {}", steps.join("; ")), at })
            }
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
    subject.has_settled |= state.is_settled();
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

/// Shows every change of the status on the console and to systemd. The journal gets each state from
/// [`SubjectReport::set`], so that none is skipped when two follow each other quickly.
pub(crate) async fn show(report: &Report, console: &Console, manager: &Manager) {
    let mut status = report.subscribe();
    let mut shown: Option<NodeStatus> = None;
    loop {
        let now = status.borrow_and_update().clone();
        manager.show(&now);
        for line in text::news(shown.as_ref(), &now) {
            console.say(&line);
        }
        shown = Some(now);
        if status.changed().await.is_err() {
            return;
        }
    }
}
