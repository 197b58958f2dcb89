//! How a rehearsal went. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use super::timeline::Lost;
use crate::clients::writers::Report;

/// How a rehearsal went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The cluster.
    pub cluster: String,
    /// The release that its nodes had.
    pub from: String,
    /// The release that they were to get.
    pub to: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// How long the wave took, in seconds.
    pub seconds: u64,
    /// Why the wave did not come to its end; nothing: it did.
    pub stopped: Option<String>,
    /// Who has restarted, in this order.
    pub restarts: Vec<Restart>,
    /// For how many seconds quorums were lost.
    pub lost: Lost,
    /// What each writer has seen.
    pub writers: Vec<Written>,
    /// In how much of the time something waited for a processor of this machine, in per cent, if the kernel knows. Where
    /// programs wait for each other, clients wait as well.
    pub waited: Option<u64>,
}

/// A node that has restarted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restart {
    /// Its name.
    pub node: String,
    /// For how long it could not be reached on upstream at worst, in seconds.
    pub away: f64,
    /// How often it has restarted.
    pub times: usize,
}

/// A machine's disk may hang for as long, in seconds: a guest's kernel begins to complain after 30 (SCSI's time-out,
/// /sys/block/sdX/device/timeout), and Patroni has a leader again after as many (its ttl).
const LONGEST_PAUSE: f64 = 30.0;

/// What a writer has seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Written {
    /// In its own words.
    #[serde(flatten)]
    pub report: Report,
    /// In how many whole seconds of the wave not one write came through.
    pub silent: usize,
}

impl Summary {
    /// What speaks against doing the same to the real cluster.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles: Vec<String> = self.stopped.iter().cloned().collect();
        for (what, seconds) in self.quorums() {
            if seconds > 0 {
                troubles.push(format!("{what} was without a quorum for {seconds} s"));
            }
        }
        for Restart { node, times, .. } in self.restarts.iter().filter(|it| it.times > 1) {
            troubles.push(format!("{node} restarted {times} times"));
        }
        for Written { report, .. } in &self.writers {
            let Report { kind, lost, worst, .. } = report;
            if !lost.is_empty() {
                troubles.push(format!("{} writes into {kind} are lost", lost.len()));
            }
            if *worst > LONGEST_PAUSE {
                troubles.push(format!("nothing could be written into {kind} for {worst:.0} s"));
            }
        }
        troubles
    }

    /// For how many seconds each was lost.
    pub fn quorums(&self) -> [(&'static str, usize); 3] {
        let Lost { zookeeper, postgres, monitors, .. } = self.lost;
        [("ZooKeeper", zookeeper), ("Ceph", monitors), ("Postgres", postgres)]
    }

    /// All of it in lines for people, the verdict last.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let away = |it: &Restart| format!("{} ({:.1} s away)", it.node, it.away);
        let restarts: Vec<String> = self.restarts.iter().map(away).collect();
        let restarts = if restarts.is_empty() { "none".into() } else { restarts.join(", ") };
        let lost = self.quorums().map(|(what, seconds)| format!("{what} {seconds} s")).join(", ");
        let _ = writeln!(text, "restarted, in this order: {restarts}");
        let _ = writeln!(text, "without a quorum: {lost}");
        let Lost { elections, longest_election, .. } = self.lost;
        if elections > 0 {
            let _ = writeln!(
                text,
                "Ceph's monitors elected for {elections} s, {longest_election} s at once"
            );
        }
        let _ = writeln!(
            text,
            "{:<10}{:>9}{:>8}{:>6}{:>14}{:>13}{:>24}",
            "writes",
            "through",
            "errors",
            "lost",
            "median pause",
            "worst pause",
            "seconds without a write"
        );
        for Written { report, silent } in &self.writers {
            let Report { kind, written, errors, lost, worst, median, kinds: _ } = report;
            let lost = lost.len();
            let _ = writeln!(
                text,
                "{kind:<10}{written:>9}{errors:>8}{lost:>6}{median:>12.2} s{worst:>11.2} s{silent:>24}"
            );
        }
        if let Some(waited) = self.waited {
            let _ = writeln!(
                text,
                "this machine: something waited for a processor in {waited} % of the time, and the writers with it"
            );
        }
        text + &self.verdict()
    }

    fn verdict(&self) -> String {
        let Self { cluster, from, to, nodes, seconds, .. } = self;
        let troubles = self.troubles();
        if troubles.is_empty() {
            return format!(
                "verdict: good: all {nodes} nodes of {cluster} went from {from} to {to} in {seconds} s, no write and no quorum \
                 was lost\n"
            );
        }
        format!("verdict: BAD: {cluster} from {from} to {to}: {}\n", troubles.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn good() -> Summary {
        let report = Report {
            kind: "zookeeper".into(),
            written: 2510,
            errors: 2,
            kinds: BTreeMap::new(),
            lost: Vec::new(),
            worst: 1.61,
            median: 0.1,
        };
        Summary {
            cluster: "attic".into(),
            from: "1.0-1".into(),
            to: "1.0-2".into(),
            nodes: 3,
            seconds: 251,
            stopped: None,
            restarts: vec![Restart { node: "hv2".into(), away: 14.23, times: 1 }],
            lost: Lost { elections: 12, longest_election: 7, ..Lost::default() },
            writers: vec![Written { report, silent: 1 }],
            waited: Some(37),
        }
    }

    #[test]
    fn a_good_one() {
        let expected = "\
restarted, in this order: hv2 (14.2 s away)
without a quorum: ZooKeeper 0 s, Ceph 0 s, Postgres 0 s
Ceph's monitors elected for 12 s, 7 s at once
writes      through  errors  lost  median pause  worst pause seconds without a write
zookeeper      2510       2     0        0.10 s       1.61 s                       1
this machine: something waited for a processor in 37 % of the time, and the writers with it
verdict: good: all 3 nodes of attic went from 1.0-1 to 1.0-2 in 251 s, no write and no quorum was lost
";
        assert_eq!(good().text(), expected);
    }

    #[test]
    fn whatever_is_lost_makes_it_a_bad_one() {
        let mut summary = good();
        summary.stopped = Some("the wave has stopped: hv2: it failed".into());
        summary.lost.monitors = 3;
        summary.restarts[0].times = 2;
        summary.writers[0].report.lost = vec![7, 8];
        summary.writers[0].report.worst = 42.4;
        let verdict = summary.verdict();
        assert_eq!(
            verdict,
            "verdict: BAD: attic from 1.0-1 to 1.0-2: the wave has stopped: hv2: it failed; Ceph was without a quorum for \
             3 s; hv2 restarted 2 times; 2 writes into zookeeper are lost; nothing could be written into zookeeper for 42 s\n"
        );
    }
}
