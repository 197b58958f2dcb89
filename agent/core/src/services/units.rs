//! The steps for units.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use super::desired::{OnChange, UnitWish};
use super::names::UnitName;
use super::observed::{Active, Unit};
use super::step::Step;
use super::{View, files, owned, problem};
use crate::subject::Plan;

/// A stop, for a unit that runs without being asked for.
pub(super) fn stop(view: &View<'_>, name: &UnitName, unit: &Unit) -> Option<Step> {
    let runs = match unit.active {
        Active::Active | Active::Reloading | Active::Activating => !unit.job,
        Active::Inactive | Active::Failed | Active::Deactivating | Active::Other => false,
    };
    // A slice does nothing; to stop it is to stop all that is in it, such as every machine.
    let stops = owned::is_unit(name) && name.kind() != "slice";
    (stops && runs && !view.wishes.contains_key(name)).then(|| Step::Stop(name.clone()))
}

/// Marks of units that nothing asks for.
pub(super) fn marks_of_nothing(view: &View<'_>) -> impl Iterator<Item = Step> {
    let marks = view.observed.pending.keys();
    marks.filter(|name| !view.wishes.contains_key(*name)).cloned().map(Step::Unmark)
}

/// A unit that should run, how, and as what it was found.
type Kept<'a> = (&'a UnitName, &'a UnitWish, &'a Unit);

/// What a desired unit needs: nothing, a step, or a person.
pub(super) fn keep(
    view: &View<'_>,
    (name, wish, unit): (&UnitName, &UnitWish, Option<&Unit>),
    plan: &mut Plan<Step>,
) {
    let Some(unit) = unit else {
        return plan.problems.push(problem(name.as_str(), "systemd does not know it".into()));
    };
    if unit.load != "loaded" {
        let reason = format!("its unit file is {}", unit.load);
        return plan.problems.push(problem(name.as_str(), reason));
    }
    let kept = (name, wish, unit);
    let limits = wish.limits.differing(&unit.limits);
    if !limits.is_empty() {
        plan.steps.push(Step::Limit { unit: name.clone(), limits });
    }
    plan.problems.extend(state(unit).map(|reason| problem(name.as_str(), reason)));
    match unit.active {
        _ if unit.job => {}
        Active::Active => run_on(view, kept, plan),
        // A changed file may be what it fails without: then it is not to wait any longer.
        Active::Activating if unit.has_failed() => read_again(view, kept, plan),
        Active::Failed | Active::Inactive => start(view, kept, plan),
        Active::Reloading | Active::Activating | Active::Deactivating | Active::Other => {}
    }
}

/// Why a unit is not as it should be, `None` if it is.
fn state(unit: &Unit) -> Option<String> {
    match unit.active {
        Active::Inactive | Active::Failed if unit.job => Some("is starting".into()),
        Active::Activating if unit.job || !unit.has_failed() => Some("is starting".into()),
        // Its own Restart= decides how often it is tried; starting it again from here would undo its pauses. The
        // event of its next change brings the next look.
        Active::Activating => Some(trouble(unit, "failed", " and waits for its restart")),
        Active::Failed => Some(trouble(unit, "failed", "")),
        Active::Deactivating => Some("is stopping".into()),
        Active::Other => Some("is in a state that the agent leaves alone".into()),
        Active::Active if unit.job => Some("is about to change: systemd has a job for it".into()),
        Active::Active | Active::Reloading if unit.flaps() => {
            Some(trouble(unit, "runs, and failed before", ""))
        }
        Active::Active | Active::Reloading | Active::Inactive => None,
    }
}

/// How a unit failed, how often and since when, and what it said.
fn trouble(unit: &Unit, what: &str, then: &str) -> String {
    let how = if unit.has_failed() { format!(" ({})", unit.result) } else { String::new() };
    let often = match unit.restarts {
        0 => String::new(),
        1 => ", restarted once".into(),
        n => format!(", restarted {n} times"),
    };
    let since = unit.since.map_or_else(String::new, |since| {
        let since = UNIX_EPOCH + Duration::from_secs(since);
        format!(" since {}", humantime::format_rfc3339_seconds(since))
    });
    let lines = match unit.lines.as_slice() {
        [] => String::new(),
        lines => format!("; its last lines: {}", lines.join(" | ")),
    };
    format!("{what}{how}{often}{since}{then}{lines}")
}

fn run_on(view: &View<'_>, kept: Kept<'_>, plan: &mut Plan<Step>) {
    let (name, _, unit) = kept;
    read_again(view, kept, plan);
    if unit.is_calm_again() {
        plan.steps.push(Step::Forgive(name.clone()));
    }
}

/// A marked unit reads its files again, once all of them are there and nobody asks it to wait.
fn read_again(view: &View<'_>, (name, wish, unit): Kept<'_>, plan: &mut Plan<Step>) {
    let Some(change) = view.observed.pending.get(name) else { return };
    // The writes are in the plan; if they fail, their errors tell why.
    if !files::are_settled(view, name) {
        return;
    }
    let missing = missing(view, &wish.permits);
    if unit.active == Active::Active && !missing.is_empty() {
        let reason = format!("waits to {change} for a changed file until there is {missing}");
        return plan.problems.push(problem(name.as_str(), reason));
    }
    plan.steps.push(match change {
        // What waits for its restart has nothing to reload.
        OnChange::Reload if unit.active == Active::Active => Step::Reload(name.clone()),
        OnChange::Reload | OnChange::Restart => Step::Restart(name.clone()),
        OnChange::Nothing => Step::Unmark(name.clone()),
    });
}

/// Starts a unit that has all it needs.
fn start(view: &View<'_>, (name, wish, _): Kept<'_>, plan: &mut Plan<Step>) {
    if !files::are_settled(view, name) {
        return;
    }
    let missing = missing(view, &wish.needs);
    if !missing.is_empty() {
        let reason = format!("waits until there is {missing}");
        return plan.problems.push(problem(name.as_str(), reason));
    }
    if view.observed.pending.contains_key(name) {
        plan.steps.push(Step::Unmark(name.clone()));
    }
    plan.steps.push(Step::Start(name.clone()));
}

/// Those of the paths that do not exist, for people.
fn missing(view: &View<'_>, paths: &BTreeSet<String>) -> String {
    let missing: Vec<&str> = paths.difference(&view.observed.exists).map(String::as_str).collect();
    missing.join(", ")
}
