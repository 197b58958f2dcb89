//! Where the bundle comes from: one source after the other, and what each had to say.

use std::path::Path;

use trilith_core::identity::{self, Machine, Mark};
use trilith_core::status::Problem;

use super::{Reading, bad, judge};
use crate::reconcile::chain;
use crate::system::bundle::{self, Place, Places, Source};
use crate::system::memory::Memory;

/// How far a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// To the first source that has anything: there is a bundle in force already, and one that comes after a bad one is
    /// older than it.
    First,
    /// To the first source that has a good one.
    All,
}

/// What a search gave.
#[derive(Debug)]
pub(crate) struct Findings {
    /// The bundle, or why there is none.
    pub(crate) reading: Reading,
    /// What each source had to say, in order, for the console.
    pub(crate) told: Vec<String>,
}

/// Looks through the sources, in the order in which they count.
pub(crate) async fn search(
    places: &Places,
    memory: &Memory,
    machine: &Machine,
    depth: Depth,
) -> Findings {
    let (mut told, mut problems) = (Vec::new(), Vec::new());
    let mut sources = places.sources().iter();
    let mut won = None;
    for source in sources.by_ref() {
        let (reading, mark) = look(source, memory, machine, depth).await;
        let says = match &reading {
            Reading::Nothing => "none".to_owned(),
            Reading::Bad { problems } => words(problems),
            Reading::Good(_) => {
                mark.map_or_else(|| "taken".into(), |mark| format!("taken, {mark}"))
            }
        };
        told.push(format!("{}: {says}", source.name));
        match reading {
            Reading::Nothing => {}
            Reading::Bad { problems: more } => problems.extend(more),
            Reading::Good(found) => {
                won = Some((found, source.name));
                break;
            }
        }
        if depth == Depth::First && !problems.is_empty() {
            break;
        }
    }
    let Some((mut found, name)) = won else {
        let nothing = problems.is_empty();
        let reading = if nothing { Reading::Nothing } else { Reading::Bad { problems } };
        return Findings { reading, told };
    };
    told.extend(sources.map(|later| format!("{}: not looked at, {name} comes first", later.name)));
    found.problems = problems;
    Findings { reading: Reading::Good(found), told }
}

fn words(problems: &[Problem]) -> String {
    let all: Vec<String> = problems.iter().map(|problem| problem.reason.clone()).collect();
    format!("refused: {}", all.join("; "))
}

async fn look(
    source: &Source,
    memory: &Memory,
    machine: &Machine,
    depth: Depth,
) -> (Reading, Option<Mark>) {
    match &source.place {
        Place::File(path) => (file(path, memory), None),
        Place::Folder(folder) => many(folder, memory, machine),
        // What is kept is what is in force, or older.
        Place::Kept if depth == Depth::First => (Reading::Nothing, None),
        Place::Kept => (kept(memory).await, None),
    }
}

fn file(path: &Path, memory: &Memory) -> Reading {
    match crate::system::files::read(path) {
        Ok(None) => Reading::Nothing,
        Ok(Some(found)) => judge(path, found.text, memory),
        Err(error) => bad(&path.display().to_string(), chain(&error).to_string()),
    }
}

/// The one among many that is for this machine.
fn many(folder: &Path, memory: &Memory, machine: &Machine) -> (Reading, Option<Mark>) {
    let name = folder.display().to_string();
    let offers = match bundle::offers(folder) {
        Ok(offers) if offers.is_empty() => return (Reading::Nothing, None),
        Ok(offers) => offers,
        Err(error) => return (bad(&name, chain(&error).to_string()), None),
    };
    match identity::choose(machine, &offers) {
        Ok(chosen) => {
            let path = folder.join(&chosen.offer.name);
            (judge(&path, chosen.offer.text.clone(), memory), Some(chosen.mark))
        }
        Err(none) => (bad(&name, none.to_string()), None),
    }
}

/// What the agent kept from earlier.
async fn kept(memory: &Memory) -> Reading {
    let path = memory.bundle_path();
    match memory.bundle().await {
        Ok(None) => Reading::Nothing,
        Ok(Some(text)) => judge(path, text, memory),
        Err(error) => {
            let reason =
                format!("cannot be opened; give the node its bundle again: {}", chain(&error));
            bad(&path.display().to_string(), reason)
        }
    }
}
