//! What clients saw in each second, as a line for people, and whether a quorum was lost in it. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clients::watchers::{Ceph, Look, Postgres, ZooKeeper};
use crate::clients::writers::{KINDS, Tick};

/// The widest line.
pub const WIDTH: usize = 100;

/// The line above the others.
pub const HEADING: &str =
    "  sec  ZooKeeper   mons  OSDs  idle  Postgres        writes into zk    pg   rbd  who acts";

/// What the columns mean.
pub const LEGEND: [&str; 4] = [
    "  ZooKeeper, mons  members in the quorum (0 while they elect), of all; who leads",
    "  OSDs, idle       OSDs that are up, of all; placement groups that are not active",
    "  Postgres         members that answer, of all; who leads; replicas that stream + are waited for",
    "  writes           that came through, ! that failed; or for how long none has; 10 are tried",
];

/// For how long monitors elect at most, in seconds: 10 until they miss one that went without a word
/// (`mon_lease_ack_timeout_factor` × `mon_lease`), 5 for the election (`mon_election_timeout`), and as long again if one
/// comes in the middle of it.
const ELECTION: usize = 30;

/// What was seen, by second since 1970-01-01 UTC.
#[derive(Debug)]
pub struct Timeline {
    /// How many coordinators there are.
    members: usize,
    /// The second in which the wave began.
    begin: u64,
    seconds: BTreeMap<u64, Second>,
}

/// What was seen in one second. What nobody has told did not answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Second {
    zookeeper: Option<ZooKeeper>,
    postgres: Option<Postgres>,
    ceph: Option<Ceph>,
    writers: [Option<Tick>; KINDS.len()],
    acts: Option<String>,
}

/// How many seconds of the wave each quorum was lost in.
///
/// Lost is the quorum of ZooKeeper, or of Postgres, in a second in which not one write came through, and in which not more
/// than half of its members answered a client: what writers see is the truth, and where they see nothing, who answers tells a
/// change of leaders from a quorum that is gone. Data in Ceph are written without its monitors: their quorum is lost when they
/// have none for longer than an election may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// ZooKeeper's, whose members answer only in a quorum.
    pub zookeeper: usize,
    /// Postgres': its members.
    pub postgres: usize,
    /// That of Ceph's monitors, who answer only in a quorum.
    pub monitors: usize,
    /// The seconds in which Ceph's monitors elected: nothing in the cluster can be changed then.
    pub elections: usize,
    /// The longest one of these elections, in seconds.
    pub longest_election: usize,
}

impl Timeline {
    /// Of a cluster with so many coordinators, and a wave that begins in this second.
    pub fn new(members: usize, begin: u64) -> Self {
        Self { members, begin, seconds: BTreeMap::new() }
    }

    /// Takes what was seen of a service.
    pub fn look(&mut self, look: Look) {
        match look {
            Look::ZooKeeper(it) => {
                let second = it.second;
                self.second(second).zookeeper = Some(it);
            }
            Look::Postgres(it) => {
                let second = it.second;
                self.second(second).postgres = Some(it);
            }
            Look::Ceph(it) => {
                let second = it.second;
                self.second(second).ceph = Some(it);
            }
        }
    }

    /// Takes what a writer said, by its number in [`KINDS`].
    pub fn tick(&mut self, writer: usize, tick: Tick) {
        if let Some(place) = self.second(tick.second).writers.get_mut(writer) {
            *place = Some(tick);
        }
    }

    /// Takes who acts in a second.
    pub fn acts(&mut self, second: u64, who: &str) {
        self.second(second).acts = Some(who.to_owned());
    }

    fn second(&mut self, second: u64) -> &mut Second {
        self.seconds.entry(second).or_default()
    }

    /// A second of the wave as it is known now, with its number in the wave.
    pub fn at(&self, second: u64) -> (u64, Second) {
        let seen = self.seconds.get(&second).cloned().unwrap_or_default();
        (second.saturating_sub(self.begin), seen)
    }

    /// A second as a line for people.
    pub fn line(&self, second: u64) -> String {
        let (number, seen) = self.at(second);
        let (mons, osds, pgs) = storage(seen.ceph.as_ref(), self.members);
        let [zookeeper, postgres, rbd] = seen.writers.map(|tick| writes(tick.as_ref()));
        let line = format!(
            "{number:>5}  {:<11} {mons:<5} {osds:<6} {pgs:>3}  {:<15}{zookeeper:>17}{postgres:>6}{rbd:>6}  {}",
            keepers(seen.zookeeper.as_ref(), self.members),
            database(seen.postgres.as_ref(), self.members),
            seen.acts.unwrap_or_default(),
        );
        cut(line.trim_end(), WIDTH)
    }

    /// What was lost from the wave's begin until a second, without that.
    pub fn lost(&self, end: u64) -> Lost {
        let mut lost = Lost::default();
        for second in self.begin..end {
            let (_, seen) = self.at(second);
            let [zookeeper, postgres, _] = seen.writers.map(|tick| wrote(tick.as_ref()));
            let serve = seen.zookeeper.map_or(0, |it| it.serve);
            let answer = seen.postgres.map_or(0, |it| it.answer);
            let gone = |wrote: bool, there: usize| usize::from(!wrote && there * 2 <= self.members);
            lost.zookeeper += gone(zookeeper, serve);
            lost.postgres += gone(postgres, answer);
        }
        let monitors = (self.begin..end).map(|second| self.has_monitors(second));
        for without in runs(monitors) {
            if without > ELECTION {
                lost.monitors += without;
            } else {
                lost.elections += without;
                lost.longest_election = lost.longest_election.max(without);
            }
        }
        lost
    }

    fn has_monitors(&self, second: u64) -> bool {
        let seen = self.seconds.get(&second).and_then(|it| it.ceph.as_ref()?.seen.as_ref());
        seen.is_some_and(|it| it.quorum * 2 > self.members)
    }

    /// In how many seconds of that not one write of each writer came through.
    pub fn without_a_write(&self, end: u64) -> [usize; KINDS.len()] {
        let mut silent = [0; KINDS.len()];
        for second in self.begin..end {
            let (_, seen) = self.at(second);
            for (count, tick) in silent.iter_mut().zip(seen.writers) {
                *count += usize::from(!wrote(tick.as_ref()));
            }
        }
        silent
    }
}

/// How long each unbroken run of seconds is that are not good.
fn runs(good: impl Iterator<Item = bool>) -> Vec<usize> {
    let seconds: Vec<bool> = good.collect();
    seconds.split(|good| *good).map(<[bool]>::len).filter(|length| *length > 0).collect()
}

fn wrote(tick: Option<&Tick>) -> bool {
    tick.is_some_and(|tick| tick.written > 0)
}

/// `3/3 n2`: who serves, and who leads.
fn keepers(seen: Option<&ZooKeeper>, members: usize) -> String {
    let Some(seen) = seen else { return format!("?/{members}") };
    let leader = seen.leader.as_deref().unwrap_or("-");
    cut(&format!("{}/{members} {leader}", seen.serve), 11)
}

/// `n2 2+1`: who takes writes, how many replicas stream, and for how many of them a commit waits.
fn database(seen: Option<&Postgres>, members: usize) -> String {
    let Some(seen) = seen else { return format!("?/{members}") };
    let leader = cut(seen.leader.as_deref().unwrap_or("-"), 7);
    format!("{}/{members} {leader} {}+{}", seen.answer, seen.streaming, seen.sync)
}

/// Monitors in the quorum, OSDs up, placement groups that are not active.
fn storage(seen: Option<&Ceph>, members: usize) -> (String, String, String) {
    let Some(seen) = seen.and_then(|it| it.seen.as_ref()) else {
        return (format!("?/{members}"), "?".into(), "?".into());
    };
    let osds = format!("{}/{}", seen.up, seen.osds);
    (format!("{}/{members}", seen.quorum), osds, seen.inactive.to_string())
}

/// `10`: so many writes came through; `9!1`: and so many failed; `2.1s`: none, for so long.
fn writes(tick: Option<&Tick>) -> String {
    let Some(tick) = tick else { return "?".into() };
    match (tick.written, tick.errors) {
        (0, _) if tick.pause < 100.0 => format!("{:.1}s", tick.pause),
        (0, _) => format!("{:.0}s", tick.pause),
        (written, 0) => written.to_string(),
        (written, errors) => format!("{written}!{errors}"),
    }
}

/// The beginning of a text, as much as fits.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::watchers::Storage;

    fn zookeeper(second: u64, serve: usize) -> Look {
        let leader = (serve > 1).then(|| "n2".to_owned());
        Look::ZooKeeper(ZooKeeper { second, serve, leader })
    }

    fn postgres(second: u64, answer: usize) -> Look {
        let leader = Some("coordinator-1".into());
        Look::Postgres(Postgres { second, answer, leader, streaming: 2, sync: 1 })
    }

    fn ceph(second: u64, quorum: usize) -> Look {
        let seen = Storage { quorum, up: 3, osds: 4, inactive: 12 };
        Look::Ceph(Ceph { second, seen: Some(seen) })
    }

    fn tick(second: u64, written: u64, errors: u64) -> Tick {
        Tick { second, written, errors, pause: 1.27 }
    }

    fn whole(second: u64) -> Timeline {
        let mut timeline = Timeline::new(3, 100);
        for look in [zookeeper(second, 3), postgres(second, 3), ceph(second, 3)] {
            timeline.look(look);
        }
        for writer in 0..KINDS.len() {
            timeline.tick(writer, tick(second, 10, 0));
        }
        timeline
    }

    #[test]
    fn a_second_is_a_line_under_its_heading() {
        let mut timeline = whole(131);
        timeline.tick(1, tick(131, 8, 2));
        timeline.tick(2, tick(131, 0, 0));
        timeline.acts(131, "n4 is off");
        let unknown = timeline.line(132);
        let expected = [
            "  sec  ZooKeeper   mons  OSDs  idle  Postgres        writes into zk    pg   rbd  who acts",
            "   31  3/3 n2      3/3   3/4     12  3/3 coordi… 2+1               10   8!2  1.3s  n4 is off",
            "   32  ?/3         ?/3   ?        ?  ?/3                            ?     ?     ?",
        ];
        assert_eq!([HEADING, &timeline.line(131), &unknown], expected);
    }

    #[test]
    fn a_long_pause_leaves_room_beside_it() {
        let mut timeline = whole(131);
        for writer in 0..KINDS.len() {
            timeline.tick(writer, Tick { pause: 1442.6, ..tick(131, 0, 3) });
        }
        assert!(timeline.line(131).ends_with(" 1443s 1443s 1443s"), "{}", timeline.line(131));
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let mut timeline = whole(131);
        timeline.acts(131, &"long ".repeat(40));
        assert_eq!(timeline.line(131).chars().count(), WIDTH);
        assert!(HEADING.len() <= WIDTH);
        assert!(LEGEND.iter().all(|line| line.len() <= WIDTH));
    }

    #[test]
    fn a_quorum_is_lost_when_nothing_is_written_and_no_majority_answers() {
        assert_eq!(whole(100).lost(101), Lost::default());
        for (written, serve, lost) in [(0, 1, 1), (0, 0, 1), (0, 2, 0), (1, 0, 0)] {
            let mut timeline = whole(100);
            timeline.look(zookeeper(100, serve));
            timeline.tick(0, tick(100, written, 0));
            let expected = Lost { zookeeper: lost, ..Lost::default() };
            assert_eq!(timeline.lost(101), expected, "{written} written, {serve} serve");
            assert_eq!(timeline.without_a_write(101), [usize::from(written == 0), 0, 0]);
        }
    }

    #[test]
    fn who_says_nothing_does_not_answer() {
        let timeline = Timeline::new(3, 100);
        let elections = Lost { elections: 2, longest_election: 2, ..Lost::default() };
        assert_eq!(timeline.lost(102), Lost { zookeeper: 2, postgres: 2, ..elections });
    }

    #[test]
    fn monitors_elect_and_only_when_that_does_not_end_they_are_lost() {
        let mut timeline = Timeline::new(3, 0);
        for second in 0..100 {
            let elects = (10..17).contains(&second) || (20..22).contains(&second);
            timeline.look(ceph(second, if elects || second >= 60 { 0 } else { 2 }));
        }
        let Lost { monitors, elections, longest_election, .. } = timeline.lost(60);
        assert_eq!((monitors, elections, longest_election), (0, 9, 7));
        let Lost { monitors, elections, .. } = timeline.lost(100);
        assert_eq!((monitors, elections), (40, 9));
    }

    #[test]
    fn what_was_before_the_wave_does_not_count() {
        let mut timeline = whole(100);
        timeline.look(zookeeper(90, 0));
        timeline.tick(0, tick(90, 0, 3));
        assert_eq!(timeline.lost(101), Lost::default());
    }
}
