//! What systemd is told: readiness, a line of status, reloads, and that the agent lives.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};
use trilith_core::status::{NodeStatus, State};

use crate::reconcile::Pulses;

/// The service manager's end. Cheap to clone; without systemd everything here does nothing.
#[derive(Clone, Default)]
pub(crate) struct Manager {
    ready: Rc<Cell<bool>>,
    text: Rc<RefCell<String>>,
}

impl Manager {
    /// Tells what the status says, as far as it is news.
    pub(crate) fn show(&self, status: &NodeStatus) {
        let text = line(status);
        if *self.text.borrow() != text {
            send(&[NotifyState::Status(&text)]);
            self.text.replace(text);
        }
        if !self.ready.get() && has_settled(status) {
            self.ready.set(true);
            send(&[NotifyState::Ready]);
        }
    }

    /// Says that the configuration is being read again, until the result is dropped.
    pub(crate) fn reloading(&self) -> Reloading<'_> {
        // While starting, systemd waits for readiness anyway, and this must not end in an early one.
        if self.ready.get() {
            match NotifyState::monotonic_usec_now() {
                Ok(now) => send(&[NotifyState::Reloading, now]),
                Err(error) => warn!(%error, "cannot read the clock"),
            }
        }
        Reloading(self)
    }
}

/// Says that the agent ends.
pub(crate) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The agent reads its configuration again.
pub(crate) struct Reloading<'a>(&'a Manager);

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        if self.0.ready.get() {
            send(&[NotifyState::Ready]);
        }
    }
}

/// Whether the boot may go on.
///
/// `network.target` waits for this. Ready is when the network stands as well as it can *now*: converged, or
/// degraded (a NIC is missing, a cable is out), or failing. Waiting for `converged` alone would let one dead NIC
/// hold up the boot for ever; being ready at once would start what needs addresses before there are any.
/// Without a bundle, and while the node is being installed, there is nothing to wait for: the boot goes on, so that a
/// person can log in or bring one.
fn has_settled(status: &NodeStatus) -> bool {
    status.bundle.source.is_none()
        || status.installation.is_some()
        || status.subjects.get("network").is_none_or(|network| match network.state {
            State::Waiting { .. } | State::Running => false,
            State::Converged | State::Degraded { .. } | State::Retry { .. } => true,
        })
}

/// The status in one line.
fn line(status: &NodeStatus) -> String {
    let subjects =
        status.subjects.iter().map(|(name, subject)| format!("{name} {}", subject.state.name()));
    let subjects = subjects.collect::<Vec<_>>().join(", ");
    match &status.node {
        Some(node) => format!("node {} ({}): {subjects}", node.name, node.id),
        None => "no node bundle".into(),
    }
}

/// Tells systemd that the agent lives, as often as it wants to hear that and only while every loop answers.
/// The one periodic wake-up of an idle agent.
pub(crate) async fn watchdog(pulses: Pulses) -> anyhow::Result<()> {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    // Three questions per limit: one late answer is no reason to kill the agent.
    let mut tick = interval((limit / 3).max(Duration::from_millis(100)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let silent = pulses.silent();
        if silent.is_empty() {
            send(&[NotifyState::Watchdog]);
        } else {
            warn!(?silent, "does not answer the watchdog");
        }
        pulses.ask();
    }
}

/// Sends to systemd. If it does not listen there is nobody to complain to but the log.
fn send(state: &[NotifyState<'_>]) {
    debug!(?state, "to systemd");
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot tell systemd");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use trilith_core::status::{BundleStatus, Problem, SubjectStatus};

    use super::*;

    fn status(source: Option<&str>, network: State) -> NodeStatus {
        let mut subject = SubjectStatus::waiting("", 0);
        subject.state = network;
        NodeStatus {
            version: "1".into(),
            node: None,
            bundle: BundleStatus { source: source.map(Into::into), ..BundleStatus::default() },
            subjects: [("network".to_owned(), subject)].into(),
            peers: BTreeMap::new(),
            addresses: Vec::new(),
            sighting: None,
            installation: None,
            trial: None,
            update: None,
        }
    }

    #[test]
    fn the_boot_waits_for_the_network_to_settle_and_never_longer() {
        let problems = vec![Problem { object: "eth7".into(), reason: "no such NIC".into() }];
        let cases = [
            (State::Waiting { on: "the node bundle".into() }, false),
            (State::Running, false),
            (State::Converged, true),
            (State::Degraded { problems }, true),
            (State::Retry { error: "no hands".into(), at: 0 }, true),
        ];
        for (state, settled) in cases {
            assert_eq!(has_settled(&status(Some("/bundle"), state.clone())), settled, "{state}");
            assert!(has_settled(&status(None, state)), "without a bundle nothing waits");
        }
    }
}
