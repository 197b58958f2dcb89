//! The steps for files, and the marks that go with them.

use super::desired::{File, OnChange};
use super::names::UnitName;
use super::observed::{Active, Unit};
use super::step::{Marks, Step};
use super::{View, owned, problem};
use crate::status::Problem;
use crate::subject::Plan;

/// Folders, then removals, then writes. Files without a checker come first, since the others may lead to them.
pub(super) fn plan(view: &View<'_>, plan: &mut Plan<Step>) {
    plan.problems.extend(shared_folders(view));
    plan.steps.extend(folders(view));
    let mut marks = view.observed.pending.clone();
    for path in stale(view) {
        let marks = mark(view, path, &mut marks);
        plan.steps.push(Step::Remove { path: path.clone(), marks });
    }
    let (guarded, others): (Vec<_>, Vec<_>) =
        view.differing().partition(|(_, file)| file.checker.is_some());
    for (path, file) in others.into_iter().chain(guarded) {
        let marks = mark(view, path, &mut marks);
        plan.steps.push(Step::Write { path: path.clone(), file: file.clone(), marks });
    }
}

/// A folder has one owner, and secrets of two users in it would be readable by one of them only.
fn shared_folders(view: &View<'_>) -> impl Iterator<Item = Problem> {
    let folders = view.desired.folders();
    let foreign = move |(path, file): (&String, &File)| {
        let (folder, _) = path.rsplit_once('/')?;
        let owner = &folders.get(folder)?.owner;
        let reason = || format!("is {}'s in a folder of {owner}'s", file.owner);
        (file.owner != *owner).then(|| problem(path, reason()))
    };
    view.desired.files.iter().filter_map(foreign)
}

fn folders(view: &View<'_>) -> impl Iterator<Item = Step> {
    let observed = &view.observed.folders;
    let differs = view.desired.folders().into_iter();
    differs
        .filter(|(path, folder)| observed.get(path) != Some(folder))
        .map(|(path, folder)| Step::Folder { path, folder })
}

/// Owned files that nothing asks for.
fn stale<'a>(view: &View<'a>) -> impl Iterator<Item = &'a String> {
    let (desired, observed) = (view.desired, view.observed);
    let found = observed.files.keys().filter(|path| !observed.strays.contains(*path));
    found
        .chain(&observed.strays)
        .filter(|path| owned::is_file(path) && !desired.files.contains_key(path.as_str()))
}

/// What each unit that may have read this file must do, and adds it to what is known of them. A unit that does not
/// run needs no mark; of one that cannot be asked nobody knows.
fn mark(view: &View<'_>, path: &str, known: &mut Marks) -> Marks {
    let mut marks = Marks::new();
    for (name, wish) in &view.wishes {
        let change = wish.on_change(path).filter(|change| *change > OnChange::Nothing);
        let Some(change) = change.filter(|_| may_have_read(view.unit(name))) else { continue };
        let change = known.get(name).map_or(change, |known| change.max(*known));
        known.insert(name.clone(), change);
        marks.insert(name.clone(), change);
    }
    marks
}

fn may_have_read(unit: Option<&Unit>) -> bool {
    unit.is_none_or(|unit| match unit.active {
        Active::Inactive | Active::Failed => unit.job,
        Active::Active
        | Active::Reloading
        | Active::Activating
        | Active::Deactivating
        | Active::Other => true,
    })
}

/// Whether every desired file that the unit reads is as it should be.
pub(super) fn are_settled(view: &View<'_>, name: &UnitName) -> bool {
    let Some(wish) = view.wishes.get(name) else { return true };
    view.differing().all(|(path, _)| wish.on_change(path).is_none())
}
