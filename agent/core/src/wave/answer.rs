//! What one node does now.

use super::health::Ceph;
use super::word::{Word, Work};
use super::{Asked, Hours, Member, Next, Phase, Step, Turn, View, Wish, closing, order, safety};
use crate::names::NodeId;
use crate::status::{Problem, problem};

/// What this node does now, given what it sees. It is total: every view has an answer.
pub fn next(me: NodeId, view: &View) -> Next {
    let Some(member) = view.member(me) else {
        return unlocked(me, view, Next::Rest);
    };
    // What is begun comes first: whatever is wished for, a turn comes to its end.
    if let Some(turn) = &view.turn
        && let Some(next) = closing::next(me, view, turn)
    {
        return next;
    }
    let Some(wish) = &view.wish else { return unlocked(me, view, Next::Rest) };
    if wish.state == Asked::Aborted {
        return unlocked(me, view, aborted(member, wish));
    }
    if let Some(turn) = view.turn.as_ref().filter(|turn| turn.node == me) {
        return prepare(me, view, wish, turn);
    }
    let next = stage(me, view, wish).unwrap_or_else(|| begin(me, view, wish, member));
    // The lock is needed for nothing but a turn.
    match next {
        Next::Do(Step::Begin(_)) => next,
        next => unlocked(me, view, next),
    }
}

/// What a node does that cannot look at itself, or does not understand what stands in ZooKeeper. It can end nothing that
/// it has begun, and must not keep others from it: they act in its place once it has been silent for long enough.
pub fn blind(me: NodeId, lock: Option<NodeId>) -> Next {
    if lock == Some(me) { Next::Do(Step::Unlock) } else { Next::Rest }
}

/// The answer, if this node holds no lock; else it lets that go first.
pub(super) fn unlocked(me: NodeId, view: &View, next: Next) -> Next {
    if view.lock == Some(me) { Next::Do(Step::Unlock) } else { next }
}

/// The step, if this node holds the lock; else it takes that first, or waits for who has it.
pub(super) fn locked(me: NodeId, view: &View, step: Step) -> Next {
    match view.lock {
        Some(holder) if holder == me => Next::Do(step),
        None => Next::Do(Step::Lock),
        Some(holder) => Next::Wait(vec![problem("lock", format!("node {holder} has it"))]),
    }
}

/// What is left to do for a wave that is none any more: the updater fetches nothing for it. What somebody else wishes of it
/// stays.
fn aborted(member: &Member, wish: &Wish) -> Next {
    match &member.word {
        Some(word) if word.told_for == Some(wish.number) && word.activates == Some(false) => {
            Next::Do(Step::Withdraw(wish.version.clone()))
        }
        _ => Next::Rest,
    }
}

/// What is to do before anybody activates. `None`: this node has done its part.
fn stage(me: NodeId, view: &View, wish: &Wish) -> Option<Next> {
    let member = view.member(me)?;
    let meant = !wish.without.contains(&me);
    if !meant || member.has(&wish.version) {
        return None;
    }
    let failures = view.failures(wish);
    if !failures.is_empty() {
        return Some(Next::Halted(failures));
    }
    if wish.state == Asked::Paused {
        return Some(Next::Wait(vec![paused(wish)]));
    }
    let word = member.word.as_ref()?;
    if ready(word, wish) {
        return None;
    }
    let wait = |why: String| Some(Next::Wait(vec![problem(member.name.as_str(), why)]));
    match &word.work {
        Work::Idle => {
            let again = once_more(member, wish);
            Some(Next::Do(Step::Stage { version: wish.version.clone(), again }))
        }
        Work::Busy(how_far) => wait(format!("stages {}: {how_far}", wish.version)),
        Work::Refused(why) => wait(format!("cannot stage {}: {why}", wish.version)),
    }
}

/// Whether the release has failed here, and may be tried all the same.
fn once_more(member: &Member, wish: &Wish) -> bool {
    let failed = member.word.as_ref().and_then(|word| word.failed_with(&wish.version));
    wish.again && failed.is_some()
}

pub(super) fn paused(wish: &Wish) -> Problem {
    problem("wave", format!("{} has paused it", wish.who))
}

/// Towards a turn of this node.
fn begin(me: NodeId, view: &View, wish: &Wish, member: &Member) -> Next {
    if member.has(&wish.version) || wish.without.contains(&me) {
        return Next::Rest;
    }
    let mut reasons = others_are_ready(me, view, wish);
    if let Hours::Closed(why) = &view.hours {
        reasons.push(problem("window", why.clone()));
    }
    if let Some(turn) = &view.turn {
        reasons.push(problem("turn", whose(view, turn)));
    } else if let Some(first) = order::sequence(view).first().filter(|first| **first != me) {
        reasons.push(problem("order", format!("node {first} comes first")));
    }
    if reasons.is_empty() {
        // Only now: before its turn comes, much speaks against a node that will be gone by then.
        reasons = safety::against(view, me);
    }
    if !reasons.is_empty() {
        return Next::Wait(reasons);
    }
    let noout = view
        .health
        .ceph
        .as_ref()
        .is_some_and(|ceph| has_osds(ceph, me) && !ceph.noout.contains(&me));
    let turn = Turn {
        node: me,
        wish: wish.number,
        version: wish.version.clone(),
        again: once_more(member, wish),
        noout,
        phase: Phase::Prepares,
    };
    locked(me, view, Step::Begin(turn))
}

fn whose(view: &View, turn: &Turn) -> String {
    let unnamed = view.member(turn.node).is_none();
    let unnamed = if unnamed { ", which this cluster file does not name" } else { "" };
    format!("it is node {}'s{unnamed}", turn.node)
}

/// All that the wave is about must answer, with a proven release, and have the new one.
fn others_are_ready(me: NodeId, view: &View, wish: &Wish) -> Vec<Problem> {
    let judge = |(id, member): (NodeId, &Member)| {
        let why = match (&member.word, &member.silent) {
            (_, Some(silent)) if id != me => format!("is silent: {}", silent.why),
            (None, _) => "has not said anything yet".into(),
            (Some(word), _) if !word.proven => word.on_trial(),
            (Some(word), _) if !ready(word, wish) => not_staged(word, wish),
            (Some(_), _) => return None,
        };
        Some(problem(member.name.as_str(), why))
    };
    view.meant(wish).filter_map(judge).collect()
}

/// What is to do until no machine runs here any more. That one could not be moved stops the wave: somebody must look.
fn moves(me: NodeId, view: &View, turn: &Turn) -> Option<Step> {
    let machines = view.health.machines.get(&me).filter(|machines| machines.running > 0)?;
    match view.member(me).and_then(|member| member.word.as_ref()).map(|word| &word.moving) {
        Some(Work::Refused(why)) => Some(Step::Fail { wish: turn.wish, why: why.clone() }),
        Some(Work::Busy(_) | Work::Idle) | None => Some(Step::Move(machines.moves.clone())),
    }
}

fn ready(word: &Word, wish: &Wish) -> bool {
    word.running >= wish.version || word.staged.as_ref() == Some(&wish.version)
}

fn not_staged(word: &Word, wish: &Wish) -> String {
    match (&word.work, &word.trouble) {
        (Work::Idle, Some(why)) => format!("has not staged {} yet: {why}", wish.version),
        (Work::Idle, None) => format!("has not staged {} yet", wish.version),
        (Work::Busy(how_far), _) => format!("stages {}: {how_far}", wish.version),
        (Work::Refused(why), _) => format!("cannot stage {}: {why}", wish.version),
    }
}

fn has_osds(ceph: &Ceph, me: NodeId) -> bool {
    ceph.osds.get(&me).is_some_and(|count| *count > 0)
}

/// This node's turn, before it activates. [`closing`] has found nothing that would end it.
fn prepare(me: NodeId, view: &View, wish: &Wish, turn: &Turn) -> Next {
    let mut against = safety::against(view, me);
    against.extend(others_are_ready(me, view, wish));
    if !against.is_empty() {
        // It may be over in a moment, as a switchover is; until then nothing stays set. After a power cut nobody has asked
        // the updater what lies there.
        let asked = || stage(me, view, wish);
        let next = closing::without_noout(me, view, turn).or_else(asked);
        return next.unwrap_or(Next::Wait(against));
    }
    if let Some(patroni) = &view.health.patroni
        && safety::leads(patroni, me)
        && patroni.members.len() > 1
        && let Ok(to) = safety::successor(view, patroni, me)
        && let (Some(from), Some(to)) = (view.member(me), view.member(to))
    {
        return locked(me, view, Step::Switch { from: from.name.clone(), to: to.name.clone() });
    }
    if let Some(step) = moves(me, view, turn) {
        return locked(me, view, step);
    }
    if let Some(step) = closing::with_noout(me, view, turn) {
        return locked(me, view, step);
    }
    match view.member(me).and_then(|member| member.word.as_ref()) {
        Some(word) => locked(me, view, Step::Commit { boot: word.boot.clone() }),
        None => Next::Wait(vec![problem("turn", "this node has not looked at itself yet".into())]),
    }
}
