//! A turn that is over, or that nobody ends.

use super::answer::{locked, paused, unlocked};
use super::word::{Word, Work};
use super::{Asked, GONE, Hours, LOST, Member, Next, Phase, Step, Turn, View, safety};
use crate::names::NodeId;
use crate::status::{Problem, problem};

/// What this node does about the turn, be it its own or another's; `None`: nothing, the turn goes on.
pub(super) fn next(me: NodeId, view: &View, turn: &Turn) -> Option<Next> {
    if turn.node != me {
        return abandoned(me, view, turn);
    }
    match &turn.phase {
        Phase::Prepares => undo(me, view, turn),
        Phase::Activated { boot } => Some(returned(me, view, turn, boot)),
    }
}

/// This node's turn, before it has committed: if it may not go on, it goes back.
fn undo(me: NodeId, view: &View, turn: &Turn) -> Option<Next> {
    (!goes_on(me, view, turn)).then(|| end(me, view, turn))
}

/// Whether this node's turn is wanted as it was when it began, and nothing has stopped the wave.
fn goes_on(me: NodeId, view: &View, turn: &Turn) -> bool {
    let wish = view.wish.as_ref().filter(|wish| {
        let same = wish.number == turn.wish && wish.version == turn.version;
        same && wish.state == Asked::Running && !wish.without.contains(&me)
    });
    wish.is_some_and(|wish| {
        let done = view.member(me).is_some_and(|member| member.has(&wish.version));
        !done && view.hours == Hours::Open && view.failures(wish).is_empty()
    })
}

/// Takes back what was set, and ends the turn.
fn end(me: NodeId, view: &View, turn: &Turn) -> Next {
    without_noout(me, view, turn).unwrap_or_else(|| locked(me, view, Step::End))
}

/// What is to do until `noout` is not set any more for the turn's host, if it was the wave that set it.
pub(super) fn without_noout(me: NodeId, view: &View, turn: &Turn) -> Option<Next> {
    if !turn.noout {
        return None;
    }
    let Some(ceph) = &view.health.ceph else {
        let reason = "its monitors do not answer, and noout must be taken back";
        return Some(Next::Wait(vec![problem("Ceph", reason.into())]));
    };
    let host = ceph.noout.contains(&turn.node).then(|| view.host(turn.node))??;
    Some(locked(me, view, Step::TakeBackNoout(host.clone())))
}

/// This node has committed: it activates, restarts, is being judged, or has come back.
fn returned(me: NodeId, view: &View, turn: &Turn, boot: &str) -> Next {
    let wait = |why: String| Next::Wait(vec![problem("turn", why)]);
    let Some(word) = view.member(me).and_then(|member| member.word.as_ref()) else {
        return wait("this node has not looked at itself yet".into());
    };
    let version = &turn.version;
    let failed = word.failed_with(version);
    let why = match (&word.work, failed) {
        _ if word.running == *version && word.proven => return end(me, view, turn),
        _ if word.running == *version => return wait(format!("this node {}", word.on_trial())),
        (_, Some(failed)) if word.boot != boot => {
            format!("{version} was activated, and {} runs: {}", word.running, failed.why)
        }
        // The power failed in between: only the updater can say whether the boot loader was to see it.
        _ if word.boot != boot => match cut_off(word, turn) {
            Cut::Before => return end(me, view, turn),
            Cut::Asked(next) => return next,
            Cut::Failed(why) => why,
        },
        _ if let Some(next) = back(me, view, turn, word) => return next,
        (Work::Idle, _) => return activate(me, view, turn),
        // It is busy with what it was told before.
        (Work::Busy(_), _) if word.activates == Some(false) => return activate(me, view, turn),
        (Work::Busy(how_far), _) => return wait(format!("{version} is activated: {how_far}")),
        (Work::Refused(why), _) => format!("{version} could not be activated: {why}"),
    };
    let said = word.vain.as_ref().is_some_and(|vain| vain.wish == turn.wish);
    if said { end(me, view, turn) } else { locked(me, view, Step::Fail { wish: turn.wish, why }) }
}

/// This node has committed, and the release is only staged, because the updater does not get on with it. The wave may have
/// been stopped meanwhile, or it may not be safe any more: then there is a way back as long as nothing is on trial, and it
/// is over when the updater has heard that it is to activate no more.
fn back(me: NodeId, view: &View, turn: &Turn, word: &Word) -> Option<Next> {
    let staged = word.proven && word.staged.as_ref() == Some(&turn.version);
    // A word of an older release does not say whether the updater has heard.
    let told = word.activates.filter(|_| staged)?;
    if goes_on(me, view, turn) && safety::against(view, me).is_empty() {
        return None;
    }
    Some(match (told, &word.work) {
        (false, _) => end(me, view, turn),
        // It may be about to read what it was told: only what it shows to have heard can be seen to be withdrawn.
        (true, Work::Idle) => {
            let reason = format!("the updater is told to activate {}", turn.version);
            Next::Wait(vec![problem("turn", reason)])
        }
        (true, Work::Busy(_) | Work::Refused(_)) => Next::Do(Step::Withdraw(turn.version.clone())),
    })
}

/// Has the updater activate, once everything is as it was at the commit: somebody may have begun to go back.
fn activate(me: NodeId, view: &View, turn: &Turn) -> Next {
    let (version, again) = (turn.version.clone(), turn.again);
    let step = with_noout(me, view, turn).unwrap_or(Step::Activate { version, again });
    locked(me, view, step)
}

/// What is to do until `noout` is set for this node, if that is the wave's to set.
pub(super) fn with_noout(me: NodeId, view: &View, turn: &Turn) -> Option<Step> {
    let unset = view.health.ceph.as_ref().is_some_and(|ceph| !ceph.noout.contains(&me));
    let member = view.member(me).filter(|_| turn.noout && unset)?;
    Some(Step::SetNoout(member.name.clone()))
}

/// What is known of an activation after which an older release runs, and nothing has failed.
enum Cut {
    /// It was not done: the release is staged as before.
    Before,
    /// The updater is asked, or is at it, or the boot loader still has it before itself.
    Asked(Next),
    /// The updater refuses the release.
    Failed(String),
}

fn cut_off(word: &Word, turn: &Turn) -> Cut {
    let version = &turn.version;
    let wait = |why: String| Cut::Asked(Next::Wait(vec![problem("turn", why)]));
    match &word.work {
        _ if !word.proven => {
            let running = &word.running;
            wait(format!(
                "{running} was started, and {version} is still on trial: restart this node"
            ))
        }
        _ if word.staged.as_ref() == Some(version) => Cut::Before,
        // It says nothing in a boot in which nobody has asked it.
        Work::Idle => {
            let (version, again) = (version.clone(), turn.again);
            Cut::Asked(Next::Do(Step::Stage { version, again }))
        }
        Work::Busy(how_far) => {
            wait(format!("the power failed: {version} is looked for: {how_far}"))
        }
        Work::Refused(why) => {
            Cut::Failed(format!("{version} was activated, and refused since: {why}"))
        }
    }
}

/// Another's turn, if that node cannot end it: what it has set is taken back. Who may have activated keeps its turn, so
/// that nobody else begins until it has come back, or an operator leaves it out. One that the cluster file does not name is
/// as much alive as others: this file may be older than its own.
fn abandoned(me: NodeId, view: &View, turn: &Turn) -> Option<Next> {
    let owner = view.member(turn.node);
    let limit = if turn.activated() { GONE } else { LOST };
    let lost = view.silence(turn.node).is_some_and(|silence| silence.seconds >= limit);
    if !lost || heir(view, turn) != Some(me) {
        return None;
    }
    if let Some(next) = without_noout(me, view, turn) {
        return Some(next);
    }
    let left_out = view.wish.as_ref().is_some_and(|wish| wish.without.contains(&turn.node));
    if owner.is_none() || left_out || !turn.activated() {
        return Some(locked(me, view, Step::End));
    }
    Some(unlocked(me, view, Next::Halted(reasons(view))))
}

fn reasons(view: &View) -> Vec<Problem> {
    let gone = view.gone().into_iter();
    let stopped = view.wish.iter().filter(|wish| wish.state == Asked::Paused).map(paused);
    gone.chain(stopped).collect()
}

/// The one that acts in the place of the turn's node. The lock decides if two take themselves for it.
fn heir(view: &View, turn: &Turn) -> Option<NodeId> {
    let answers = |member: &Member| member.silent.is_none() && member.word.is_some();
    let other = |(id, member): &(&NodeId, &Member)| **id != turn.node && answers(member);
    let mut others: Vec<_> =
        view.nodes.iter().filter(other).map(|(id, member)| (!member.coordinator, *id)).collect();
    others.sort_unstable();
    others.first().map(|(_, id)| *id)
}
