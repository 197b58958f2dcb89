//! The one loop for every subject: observe → plan → apply → observe again.
//!
//! It is level-triggered: whatever wakes it (new configuration, an event of the host, a pause that ended), it
//! looks afresh and trusts nothing that it remembers. Converged means that a fresh look gave an empty plan.
//! Errors become status; the loop ends only with the agent.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use trilith_core::status::{Details, Problem, State};
use trilith_core::subject::{OnFailure, Plan, Subject};

use crate::report::SubjectReport;

mod pace;
mod pulse;
#[cfg(test)]
mod tests;

use pace::Pace;
pub(crate) use pulse::{Pulse, Pulses};

/// What an adapter failed with. The loop tells no errors apart: it prints the chain once and tries again.
pub(crate) type HostError = Box<dyn Error + Send + Sync>;

/// How long one call of an adapter may take. A call that hangs becomes an error and not a silent agent.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// What the loop needs of the host for one subject. An adapter implements it and decides nothing.
///
/// Every future may be dropped at any await (the loop bounds each call by [`CALL_LIMIT`], and the agent may
/// stop): the next look shows what was done.
pub(crate) trait Host<S: Subject> {
    /// Looks at what `desired` is about.
    async fn observe(&mut self, desired: &S::Desired) -> Result<S::Observed, HostError>;

    /// Carries out one step by one call to the outside.
    async fn apply(&mut self, step: &S::Step) -> Result<(), HostError>;

    /// Resolves when the host may have changed since the last `observe` began, at once if it already has.
    /// Cancel-safe, driven by events of the host, and by a timer only where a service tells nobody of its changes. An
    /// adapter that lost its event source resolves, and mends it in the next `observe`.
    async fn changed(&mut self);

    /// How many questions and orders it has put to the service since the agent started: what the agent costs
    /// others. 0 where nobody is asked but the kernel and systemd.
    fn requests(&self) -> u64 {
        0
    }
}

/// What a loop listens to.
pub(crate) struct Inputs<D> {
    /// The desired state, `None` while there is no node bundle.
    pub(crate) desired: watch::Receiver<Option<D>>,
    /// What must have come first.
    pub(crate) after: After,
    /// The watchdog's question whether this loop still turns.
    pub(crate) pulse: Pulse,
}

/// What a subject waits for before its first look. Once is enough: trouble of a predecessor later stops nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing.
    Nothing,
    /// The subject of this name has once had no step left, converged or degraded.
    Settled(&'static str),
    /// The subject of this name has once converged.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the rule for all subjects that come after services")
    )]
    Converged(&'static str),
}

impl After {
    /// For people.
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Settled(name) | Self::Converged(name) => name,
        }
    }
}

/// Keeps one subject right until the agent stops (until the sender of the desired state is gone).
pub(crate) async fn run<S, H>(
    mut host: H,
    mut inputs: Inputs<S::Desired>,
    mut report: SubjectReport,
) where
    S: Subject,
    H: Host<S>,
{
    let mut pace = Pace::new(Instant::now());
    while wait_for_turn(&mut inputs, &mut report).await.is_ok() {
        let Some(desired) = inputs.desired.borrow_and_update().clone() else { continue };
        let started = Instant::now();
        let mut pass = Pass { inputs: &mut inputs, pace: &mut pace, report: &mut report };
        let outcome = pass.run::<S, H>(&mut host, &desired).await;
        report.passed(started.elapsed(), host.requests());
        let next = settle(outcome, &mut pace, &mut report);
        if wait_for_reason(&mut host, &mut inputs, next, &mut pace).await.is_err() {
            break;
        }
    }
}

/// The agent is stopping: nobody sends desired states any more.
struct Stopping;

/// Waits until there is a desired state and the predecessor is as far as it must be.
async fn wait_for_turn<D>(
    inputs: &mut Inputs<D>,
    report: &mut SubjectReport,
) -> Result<(), Stopping> {
    loop {
        inputs.pulse.answer();
        let may_start = report.may_start(inputs.after);
        let on = match inputs.desired.borrow_and_update().is_none() {
            true => "the node bundle",
            false if may_start => return Ok(()),
            false => inputs.after.name(),
        };
        report.set(State::Waiting { on: on.into() });
        // Every arm only waits for a watch channel to move on; dropping it loses nothing, since the values
        // stay in the channels and the top of this loop reads them all.
        tokio::select! {
            changed = inputs.desired.changed() => changed.map_err(|_| Stopping)?,
            () = report.others_changed(), if !may_start => {}
            () = inputs.pulse.asked() => {}
        }
    }
}

/// How one pass ended.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// The plan was empty.
    Converged,
    /// No step was left and something stands in the way.
    Degraded(Vec<Problem>),
    /// Steps were applied: only a fresh look tells whether they were enough.
    Changed,
    /// New configuration came in the middle; the rest of the plan is void.
    Overtaken,
    /// All of the plan was tried a moment ago, so it is not applied again before this moment.
    Held(Instant),
    /// Looking failed.
    Blind(String),
    /// A step failed, perhaps after others that did not.
    Failed(String),
}

/// What one pass reads and writes besides the host.
struct Pass<'a, D> {
    inputs: &'a mut Inputs<D>,
    pace: &'a mut Pace,
    report: &'a mut SubjectReport,
}

impl<D> Pass<'_, D> {
    /// Observes, plans and applies once.
    async fn run<S, H>(&mut self, host: &mut H, desired: &D) -> Outcome
    where
        S: Subject<Desired = D>,
        H: Host<S>,
    {
        let plan = match look::<S, H>(host, desired).await {
            Ok(Look { plan, details }) => {
                self.report.details(details);
                plan
            }
            Err(error) => return Outcome::Blind(format!("cannot observe: {}", chain(&*error))),
        };
        self.inputs.pulse.answer();
        self.pace.planned(&plan.steps, Instant::now());
        if plan.is_converged() {
            return Outcome::Converged;
        }
        if plan.steps.is_empty() {
            return Outcome::Degraded(plan.problems);
        }
        if let Some(until) = self.pace.hold(&plan.steps, Instant::now()) {
            self.report.hold(plan, until.saturating_duration_since(Instant::now()));
            return Outcome::Held(until);
        }
        self.report.planned(&plan);
        let outcome = self.apply::<S, H>(host, &plan).await;
        self.pace.applied(&plan.steps, Instant::now());
        outcome
    }

    /// Applies the steps in order.
    async fn apply<S, H>(&mut self, host: &mut H, plan: &Plan<S::Step>) -> Outcome
    where
        S: Subject<Desired = D>,
        H: Host<S>,
    {
        let mut failures = Vec::new();
        for step in &plan.steps {
            // A closed channel is no news here: the wait after the pass sees it.
            if self.inputs.desired.has_changed().unwrap_or(false) {
                return Outcome::Overtaken;
            }
            match limited(host.apply(step)).await {
                Ok(()) => self.report.applied(step),
                Err(error) => failures.push(format!("{step}: {}", chain(&*error))),
            }
            self.inputs.pulse.answer();
            if !failures.is_empty() && S::ON_FAILURE == OnFailure::Stop {
                break;
            }
        }
        if failures.is_empty() {
            Outcome::Changed
        } else {
            Outcome::Failed(listed(failures.into_iter()))
        }
    }
}

/// What a look at the host led to.
pub(crate) struct Look<S> {
    /// What would be done.
    pub(crate) plan: Plan<S>,
    /// What else there is to say.
    pub(crate) details: Details,
}

/// Looks at the host and plans: all of a pass that changes nothing.
pub(crate) async fn look<S, H>(
    host: &mut H,
    desired: &S::Desired,
) -> Result<Look<S::Step>, HostError>
where
    S: Subject,
    H: Host<S>,
{
    let observed = limited(host.observe(desired)).await?;
    Ok(Look { plan: S::plan(desired, &observed), details: S::details(desired, &observed) })
}

/// When the next pass is due if nothing else brings it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Next {
    /// At once.
    Now,
    /// At this moment, or at an event.
    At(Instant),
}

/// Turns the outcome into status and the pause that follows from it.
fn settle(outcome: Outcome, pace: &mut Pace, report: &mut SubjectReport) -> Next {
    let now = Instant::now();
    match outcome {
        Outcome::Converged => {
            report.set(State::Converged);
            Next::At(now + pace.converged())
        }
        Outcome::Degraded(problems) => {
            report.set(State::Degraded { problems });
            Next::At(now + pace.not_converged())
        }
        Outcome::Changed => Next::Now,
        Outcome::Overtaken => {
            pace.fresh_start();
            Next::Now
        }
        Outcome::Held(until) => Next::At(until),
        Outcome::Blind(error) => {
            let pause = pace.not_converged();
            report.retry(error, pause);
            Next::At(now + pause)
        }
        Outcome::Failed(error) => {
            let until = pace.held(now);
            report.retry(error, until.saturating_duration_since(now));
            Next::At(until)
        }
    }
}

/// Waits until there is a reason for another pass, and until the pace allows one.
async fn wait_for_reason<S: Subject, H: Host<S>>(
    host: &mut H,
    inputs: &mut Inputs<S::Desired>,
    next: Next,
    pace: &mut Pace,
) -> Result<(), Stopping> {
    if let Next::At(due) = next {
        loop {
            inputs.pulse.answer();
            // Cancel safety: `watch::Receiver::changed` and the pulse keep their value until it is read;
            // `Host::changed` promises to resolve again if what it saw was not observed since; `due` is fixed
            // before the loop, so that being asked for the pulse does not postpone it.
            tokio::select! {
                changed = inputs.desired.changed() => {
                    changed.map_err(|_| Stopping)?;
                    pace.fresh_start();
                    return Ok(());
                }
                () = host.changed() => break,
                () = sleep_until(due) => break,
                () = inputs.pulse.asked() => {}
            }
        }
    }
    wait_for_permit(inputs, pace).await
}

/// Spaces passes that follow each other without end; a burst of a few is not held up.
async fn wait_for_permit<D>(inputs: &mut Inputs<D>, pace: &mut Pace) -> Result<(), Stopping> {
    let allowed = pace.take_permit(Instant::now());
    loop {
        inputs.pulse.answer();
        // Cancel safety: as above; the permit is already taken and `allowed` is a fixed moment.
        tokio::select! {
            biased;
            () = sleep_until(allowed) => return Ok(()),
            changed = inputs.desired.changed() => {
                pace.fresh_start();
                return changed.map_err(|_| Stopping);
            }
            () = inputs.pulse.asked() => {}
        }
    }
}

/// Bounds one call of an adapter.
async fn limited<T>(call: impl Future<Output = Result<T, HostError>>) -> Result<T, HostError> {
    match timeout(CALL_LIMIT, call).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", CALL_LIMIT.as_secs()).into()),
    }
}

/// Several messages in one line.
fn listed(messages: impl Iterator<Item = String>) -> String {
    messages.collect::<Vec<_>>().join("; ")
}

/// An error with its causes, `: ` between them: printed once, at the edge. Some libraries' errors print their
/// cause themselves; it is not said twice.
pub(crate) fn chain(error: &dyn Error) -> impl fmt::Display {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        cause = error.source();
    }
    text
}
