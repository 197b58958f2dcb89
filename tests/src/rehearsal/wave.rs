//! The wave itself: begun as an operator begins it, followed until it is over, while nodes that are off are started.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use trilith_core::config::NetworkName;
use trilith_core::version::Version;

use super::Order;
use super::report::Restart;
use super::screen::Screen;
use super::timeline::{HEADING, Timeline, WIDTH, cut};
use crate::clients::watchers::Watchers;
use crate::clients::writers::Writers;
use crate::firmware::{Firmware, upgrade};
use crate::lab::{Lab, now};
use crate::quorums::coordinators;
use crate::upgrade::Absence;

/// How often it is looked whether a node is off, or a second to be shown.
const PACE: Duration = Duration::from_millis(200);
/// So many seconds later than it was, a second is shown: who watches has told of it by then.
const LATE: u64 = 3;
/// After so many lines the heading comes once more.
const PAGE: u64 = 40;

/// A wave that goes on.
pub(super) struct Wave<'a> {
    lab: &'a Lab,
    clients: (&'a Writers, &'a Watchers),
    timeline: Timeline,
    /// What happened, by second.
    events: BTreeMap<u64, Vec<String>>,
    /// Who acts now.
    acts: Option<String>,
    /// The second in which it began, and the first one that is not shown yet.
    begin: u64,
    next: u64,
    absences: Vec<(String, Absence)>,
    restarted: Vec<String>,
}

/// What happens.
enum Event {
    /// A node was off and is started, with this release.
    Starts(String, Version),
    /// A line of `trilith upgrade`.
    Says(String),
    /// A node cannot be started.
    Fails(anyhow::Error),
}

impl<'a> Wave<'a> {
    /// Begins it, by the operator's own command.
    pub(super) fn begin(
        lab: &'a Lab,
        order: &Order,
        clients: (&'a Writers, &'a Watchers),
    ) -> Result<Self> {
        let absences =
            lab.inside(|| lab.names().into_iter().map(|name| watch(lab, name)).collect())?;
        let begin = now()?.as_secs();
        let timeline = Timeline::new(coordinators(lab)?.len(), begin);
        let mut wave = Self {
            lab,
            clients,
            timeline,
            events: BTreeMap::new(),
            acts: None,
            begin,
            next: begin,
            absences,
            restarted: Vec::new(),
        };
        let said = upgrade(lab, &[order.to.version.as_str(), "--detach"])?;
        wave.event(begin, said.trim_end());
        Ok(wave)
    }

    /// Until it is over. Gives why it is not, if it ends in another way.
    pub(super) fn follow(
        &mut self,
        screen: &mut Screen<'_>,
        limit: Duration,
    ) -> Result<Option<String>> {
        let (sender, events) = channel();
        let (lab, over) = (self.lab, AtomicBool::new(false));
        let mut follower = Follower::start(lab, sender.clone())?;
        thread::scope(|scope| {
            scope.spawn(|| start_nodes(lab, &over, &sender));
            let ended = self.watch(screen, (&events, &mut follower), limit);
            over.store(true, Ordering::Relaxed);
            ended
        })
    }

    fn watch(
        &mut self,
        screen: &mut Screen<'_>,
        (events, follower): (&Receiver<Event>, &mut Follower),
        limit: Duration,
    ) -> Result<Option<String>> {
        let begin = Instant::now();
        let mut ended: Option<(u64, Option<String>)> = None;
        loop {
            let failed = self.take(events)?.map(Some);
            let now = now()?.as_secs();
            if ended.is_none() {
                let over = follower.ended()?.map(|how| self.why(how));
                let late = begin.elapsed() > limit;
                let late =
                    late.then(|| Some(format!("it is not over after {} s", limit.as_secs())));
                ended = failed.or(over).or(late).map(|why| (now, why));
            }
            self.show(screen, now)?;
            if let Some((at, why)) = &ended
                && self.next > *at
            {
                return Ok(why.clone());
            }
        }
    }

    /// Takes what happens for a while, and what clients have told. Gives why nothing more will happen.
    fn take(&mut self, events: &Receiver<Event>) -> Result<Option<String>> {
        let event = events.recv_timeout(PACE);
        let (now, mut failed) = (now()?.as_secs(), None);
        match event {
            Ok(Event::Starts(name, version)) => {
                self.event(now, &format!("{name} was off and starts with {version}"));
                self.acts = Some(format!("{name} starts"));
                self.restarted.push(name);
            }
            Ok(Event::Says(line)) => {
                self.acts = acts(self.acts.take(), &line);
                self.event(now, &line);
            }
            Ok(Event::Fails(error)) => {
                failed = Some(format!("a node cannot be started: {error:#}"));
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if let Some(who) = &self.acts {
            self.timeline.acts(now, who);
        }
        let (writers, watchers) = self.clients;
        writers.seconds()?.into_iter().for_each(|(writer, tick)| self.timeline.tick(writer, tick));
        watchers.looks()?.into_iter().for_each(|look| self.timeline.look(look));
        Ok(failed)
    }

    fn event(&mut self, second: u64, what: &str) {
        self.events.entry(second).or_default().extend(what.lines().map(str::to_owned));
    }

    /// Shows the seconds that all have told of.
    fn show(&mut self, screen: &mut Screen<'_>, now: u64) -> Result<()> {
        while self.next + LATE <= now {
            let second = self.next;
            if (second - self.begin).is_multiple_of(PAGE) {
                screen.line(HEADING)?;
            }
            let (number, seen) = self.timeline.at(second);
            for what in self.events.remove(&second).unwrap_or_default() {
                screen.line(&cut(&format!("     | {what}"), WIDTH))?;
                screen.record(&json!({ "event": { "number": number, "what": what } }))?;
            }
            screen.line(&self.timeline.line(second))?;
            screen.record(&json!({ "second": { "number": number, "seen": seen } }))?;
            self.next += 1;
        }
        Ok(())
    }

    /// Why a wave has stopped, in the words of whoever says so; nothing: it is over.
    fn why(&self, ended: Ended) -> Option<String> {
        match ended {
            Ended::Over => return None,
            Ended::Lost(said) => return Some(format!("the wave cannot be followed: {said}")),
            Ended::Stopped => {}
        }
        let shown = upgrade(self.lab, &["--detach"]).unwrap_or_else(|error| format!("{error:#}"));
        let tells =
            |line: &&str| ["halted", "trouble", "silent"].iter().any(|it| line.contains(it));
        let lines: Vec<&str> = shown.lines().filter(tells).collect();
        let why =
            if lines.is_empty() { shown.trim().replace('\n', "; ") } else { lines.join("; ") };
        Some(format!("the wave has stopped: {why}"))
    }

    /// The second after its last one, what was seen until then, and who has restarted.
    pub(super) fn end(self) -> (u64, Timeline, Vec<Restart>) {
        let mut restarts: Vec<Restart> = Vec::new();
        for node in self.restarted {
            if let Some(again) = restarts.iter_mut().find(|it| it.node == node) {
                again.times += 1;
                continue;
            }
            let own = self.absences.iter().find(|(name, _)| *name == node);
            let away = own.map_or(Duration::ZERO, |(_, it)| it.longest().max(it.current()));
            restarts.push(Restart { node, away: away.as_secs_f64(), times: 1 });
        }
        (self.next, self.timeline, restarts)
    }
}

/// Who acts after a line of `trilith upgrade`: whoever does a step, until it rests or waits.
fn acts(before: Option<String>, line: &str) -> Option<String> {
    let Some((name, what)) = line.split_once(": runs ") else { return before };
    let next = what.split_once(", ").map_or(what, |(_, next)| next);
    let idle = ["rests", "waits: ", "halted: "].iter().any(|it| next.starts_with(it));
    // All do that at the same time.
    let staging = next.starts_with("stage ");
    let own = before.as_ref().is_some_and(|who| who.split([' ', ':']).next() == Some(name));
    match (idle || staging, own) {
        (true, true) => None,
        (true, false) => before,
        (false, _) => Some(format!("{name}: {next}")),
    }
}

/// Whether a node can be reached on upstream, from the network of the calling thread.
fn watch(lab: &Lab, name: &str) -> Result<(String, Absence)> {
    let node = lab.node(name)?;
    let upstream = node.config()?.network(NetworkName::Upstream).context("no upstream")?;
    let address = upstream.addresses.first().context("no address on upstream")?.address.addr();
    Ok((name.to_owned(), Absence::watch(address)?))
}

/// In the place of firmware and boot loaders, until it is over.
fn start_nodes(lab: &Lab, over: &AtomicBool, events: &Sender<Event>) {
    let mut firmware = Firmware::new(lab);
    while !over.load(Ordering::Relaxed) {
        let told = match firmware.start() {
            Ok(started) => started.into_iter().map(|(name, it)| Event::Starts(name, it)).collect(),
            Err(error) => vec![Event::Fails(error)],
        };
        let failed = told.iter().any(|event| matches!(event, Event::Fails(_)));
        if told.into_iter().any(|event| events.send(event).is_err()) || failed {
            return;
        }
        // The control groups tell nobody.
        thread::sleep(PACE);
    }
}

/// How the command that follows a wave ends.
enum Ended {
    /// The wave is over.
    Over,
    /// It has stopped.
    Stopped,
    /// Nobody knows, for this reason.
    Lost(String),
}

/// The operator's own command that shows how far a wave is, and ends with it.
struct Follower {
    child: Child,
}

impl Follower {
    fn start(lab: &Lab, events: Sender<Event>) -> Result<Self> {
        let mut child = lab.inside(|| {
            let mut command = lab.cluster().upgrade(&[])?;
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().context("cannot start trilith upgrade")
        })?;
        let stdout = child.stdout.take().context("no output of trilith upgrade")?;
        thread::spawn(move || listen(stdout, &events));
        Ok(Self { child })
    }

    /// How it ended; nothing: it goes on.
    fn ended(&mut self) -> Result<Option<Ended>> {
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        Ok(Some(match (status.success(), said.trim()) {
            (true, _) => Ended::Over,
            (false, "") => Ended::Stopped,
            (false, said) => Ended::Lost(said.to_owned()),
        }))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn listen(stdout: ChildStdout, events: &Sender<Event>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if events.send(Event::Says(line)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_acts_is_who_does_a_step_until_it_rests() {
        let step = |before: Option<&str>, line| acts(before.map(str::to_owned), line);
        let begins = step(None, "n4: runs 1.0-1, set noout for n4").unwrap();
        assert_eq!(begins, "n4: set noout for n4");
        assert_eq!(step(Some(&begins), "n2: runs 1.0-1, waits: n4 has its turn").unwrap(), begins);
        assert_eq!(
            step(Some("n4 starts"), "wave: the wave to 1.0-2 goes on").unwrap(),
            "n4 starts"
        );
        assert_eq!(step(Some("n4 starts"), "n4: runs 1.0-2, rests"), None);
        assert_eq!(step(Some(&begins), "n4: runs 1.0-1, rests"), None);
        assert_eq!(step(None, "n1: runs 1.0-1, stage 1.0-2 (40 %)"), None);
        assert_eq!(step(None, "n1: is silent: its session is over"), None);
    }
}
