//! Golden verdicts, and the texts that are kept.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

#[test]
fn golden_verdicts() {
    crate::golden::check_cases("gate", 20, "verdict.txt", |read| {
        let before: Result<Before, _> = serde_yaml::from_str(&read("before.yaml"));
        let now: Result<Now, _> = serde_yaml::from_str(&read("now.yaml"));
        match (before, now) {
            (Ok(before), Ok(now)) => {
                is_proven_by_itself(&now);
                shown(&judge(&before, &now))
            }
            (Err(error), _) => format!("before: {error}\n"),
            (_, Err(error)) => format!("now: {error}\n"),
        }
    });
}

fn shown(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Proven => "proven\n".into(),
        Verdict::Inconclusive { reason } => format!("inconclusive: {reason}\n"),
        Verdict::Waiting { reasons } => format!("waiting\n  {}\n", reasons.join("\n  ")),
    }
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn root(digit: &str) -> RootHash {
    RootHash::try_from(digit.repeat(64)).unwrap()
}

/// What is written down of a node and what the same status gives again: a node that is as it was proves itself, whatever
/// it is.
fn is_proven_by_itself(now: &Now) {
    let Some(status) = &now.status else { return };
    let parts = Parts::of(status, &now.links);
    let settled = parts.network.is_some() && now.booted;
    let before = Before { parts, ..Before::unknown(version("2.0")) };
    assert_eq!(judge(&before, now) == Verdict::Proven, settled);
    assert_eq!(Before::parse(&before.text().unwrap()).unwrap(), before);
}

#[test]
fn what_is_written_down_is_read_by_older_and_newer_releases() {
    let least = "{version: '2.0', from: '1.0', limit: 900}";
    assert_eq!(Before::parse(least).unwrap().parts, Parts::default());
    let more = "{version: '2.0', from: '1.0', limit: 900, tea: hot, parts: {ceph: peon, cake: 3}}";
    assert_eq!(Before::parse(more).unwrap().parts.ceph.as_deref(), Some("peon"));
    assert!(Before::parse("").is_err());
}

#[test]
fn failed_releases_are_kept_by_version_and_root() {
    let mut list = FailedList::parse("").unwrap();
    let failed = |text: &str, root: Option<RootHash>, why: &str| Failed {
        version: version(text),
        root,
        why: why.into(),
        at: 1_795_264_175,
    };
    list.add(failed("2.0", Some(root("a")), NO_WORD));
    list.add(failed("2.1", None, "it did"));
    assert!(list.has(&version("2.0"), Some(&root("a"))).is_some());
    assert!(list.has(&version("2.0"), None).is_some(), "the version is all that is known");
    assert!(list.has(&version("2.0"), Some(&root("b"))).is_none(), "another build");
    assert!(list.has(&version("2.1"), Some(&root("b"))).is_some());
    assert!(list.has(&version("2.2"), None).is_none());
    assert_eq!(FailedList::parse(&list.text().unwrap()).unwrap(), list);
    let lines = [
        "2.0 has failed on this node (2026-11-21T12:29:35Z): its tries are used up; it never got so far as to say why",
        "2.1 has failed on this node (2026-11-21T12:29:35Z): it did",
    ];
    assert_eq!(list.lines(), lines);

    list.add(failed("2.0", Some(root("b")), "again"));
    assert_eq!(list.lines().len(), 2);
    assert_eq!(list.has(&version("2.0"), None).unwrap().why, "again");
    list.forget(&version("2.0"));
    list.forget(&version("2.1"));
    assert!(list.is_empty());
    list.add(Failed { at: u64::MAX, ..failed("3", None, "x") });
    assert!(list.lines()[0].contains("9999-12-31"), "{:?}", list.lines());
}

#[test]
fn a_person_reads_where_the_trial_stands() {
    let trial = |verdict| Said {
        version: "2.0".into(),
        stand: Stand::Trial { number: 2, limit: LIMIT, spent: Spent::new(), verdict },
        failed: FailedList::default(),
    };
    let reasons = vec!["agent: it does not answer".to_owned(), "ceph: gone".into()];
    let said = trial(Verdict::Waiting { reasons });
    let lines = [
        "trial: 2.0, try 2: not proven yet; after 15 min it reboots",
        "  agent: it does not answer",
        "  ceph: gone",
    ];
    assert_eq!(said.lines(), lines);
    let gone = trial(Verdict::Inconclusive { reason: "no other node answers".into() });
    let lines = [
        "trial: 2.0, try 2: nothing can be said of it, and its time does not count",
        "  no other node answers",
    ];
    assert_eq!(gone.lines(), lines);
    let proven = Said { stand: Stand::Proven, ..gone.clone() };
    assert_eq!(proven.lines(), ["trial: 2.0 has proven itself in this boot"]);
    assert!(Said { stand: Stand::Old, ..gone.clone() }.lines().is_empty());
    for said in [said, gone, proven] {
        let text = said.text().unwrap();
        assert_eq!(Said::parse(&text).unwrap(), said, "{text}");
        let json = serde_json::to_string(&said).unwrap();
        assert_eq!(serde_json::from_str::<Said>(&json).unwrap(), said, "{json}");
    }
}

#[test]
fn what_a_boot_leaves_says_whether_its_time_was_over() {
    let why = Why { version: version("2.0"), root: None, why: "ceph: gone".into(), over: true };
    assert_eq!(why.sentence(), "it did not prove itself in time: ceph: gone");
    let early = Why { over: false, ..why };
    let expected = "a boot of it ended before its time was over; the last that it said: ceph: gone";
    assert_eq!(early.sentence(), expected);
}

/// Seconds of a trial with a site that goes and comes back, as the gate hears of it.
#[test]
fn a_night_without_the_site_burns_no_try() {
    let at = Duration::from_secs;
    let parts = Parts { peers: BTreeSet::from(["n2".to_owned()]), ..Parts::default() };
    let before = Before { parts, ..Before::unknown(version("2.0")) };
    let status = |silent: &str| {
        format!(
            "{{booted: true, status: {{version: '2.0', node: null, bundle: {{source: null, problems: []}},
              peers: {{n2: {{since: 1{silent}}}}}, subjects: {{network: {{state: converged, since: 1,
              has_converged: true, has_settled: true, steps_applied: 0, passes: 0, last_pass_us: 0}}}}}}}}"
        )
    };
    let judged = |text: &str| judge(&before, &serde_yaml::from_str(text).unwrap());
    let (gone, back) = (judged(&status(", silent: 'no answer'")), judged(&status("")));
    assert!(matches!(gone, Verdict::Inconclusive { .. }), "{gone:?}");
    assert_eq!(back, Verdict::Proven);
    let mut spent = Spent::new();
    spent.hear(at(60), &gone);
    spent.hear(at(36_000), &gone);
    assert_eq!(spent.left(at(before.limit), at(36_000)), at(840));
}
