//! The status for a person.

use std::fmt::Write as _;

use super::{NodeStatus, State, SubjectStatus};
use crate::gate::Said;
use crate::update;

/// What is new since `before`: a line for who the node is, for each problem of a bundle and for each subject that
/// entered another state.
pub fn news(before: Option<&NodeStatus>, now: &NodeStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if before.is_none_or(|before| before.node != now.node || before.bundle != now.bundle) {
        lines.extend(who(now));
        lines.extend(now.bundle.problems.iter().map(|problem| format!("bundle: {problem}")));
        lines.extend(now.bundle.warnings.iter().map(|warning| format!("warning: {warning}")));
    }
    if before.is_none_or(|before| before.installation != now.installation) {
        lines.extend(now.installation.iter().flat_map(|text| text.lines().map(str::to_owned)));
    }
    if before.is_none_or(|before| before.trial != now.trial) {
        lines.extend(now.trial.iter().flat_map(Said::lines));
    }
    // How far it is, is no news.
    let update = |status: &NodeStatus| status.update.as_ref().map(update::State::news);
    if before.and_then(update) != update(now) {
        lines.extend(update(now).into_iter().flatten().map(|line| format!("update: {line}")));
    }
    for (name, subject) in &now.subjects {
        let old = before.and_then(|before| before.subjects.get(name));
        let waits = matches!(subject.state, State::Waiting { .. });
        if !waits && old.is_none_or(|old| !old.state.same_news(&subject.state)) {
            lines.push(format!("{name} {}", subject.state));
        }
    }
    if now.is_converged() && !before.is_some_and(NodeStatus::is_converged) {
        lines.push("node converged".into());
    }
    lines
}

fn who(status: &NodeStatus) -> Option<String> {
    let (node, source) = (status.node.as_ref()?, status.bundle.source.as_ref()?);
    Some(format!("node {} (ID {}) of cluster {}, from {source}", node.name, node.id, node.cluster))
}

/// The whole status, `now` in seconds since 1970-01-01 UTC.
pub fn full(status: &NodeStatus, now: u64) -> String {
    let mut text = String::new();
    let who = who(status).unwrap_or_else(|| "no node bundle".into());
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "{who}; trilithd {}", status.version);
    for problem in &status.bundle.problems {
        let _ = writeln!(text, "  bundle: {problem}");
    }
    for warning in &status.bundle.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
    for line in status.trial.iter().flat_map(Said::lines) {
        let _ = writeln!(text, "{line}");
    }
    if let Some(installation) = &status.installation {
        // Nothing else is brought up meanwhile.
        let _ = writeln!(text, "{installation}");
        return text;
    }
    for (name, subject) in &status.subjects {
        subject_lines(&mut text, name, subject, now);
    }
    for line in status.update.iter().flat_map(update::State::lines) {
        let _ = writeln!(text, "update: {line}");
    }
    for (name, peer) in &status.peers {
        let since = span(now.saturating_sub(peer.since));
        let word =
            peer.silent.as_ref().map_or_else(|| "answers".into(), |why| format!("silent: {why}"));
        let _ = writeln!(text, "peer {name}: {word}, for {since}");
    }
    text
}

fn subject_lines(text: &mut String, name: &str, subject: &SubjectStatus, now: u64) {
    let since = span(now.saturating_sub(subject.since));
    let _ = writeln!(text, "{name:<12}{:<11}for {since}", subject.state.name());
    match &subject.state {
        State::Running | State::Converged => {}
        State::Waiting { on } => {
            let _ = writeln!(text, "  for {on}");
        }
        State::Degraded { problems } => {
            for problem in problems {
                let _ = writeln!(text, "  {problem}");
            }
        }
        State::Retry { error, at } => {
            let _ = writeln!(text, "  {error}\n  again in {}", span(at.saturating_sub(now)));
        }
    }
    for line in subject.details.lines() {
        let _ = writeln!(text, "  {line}");
    }
}

/// A time span by its two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::status::{BundleStatus, NodeIdentity, Problem};

    use super::*;

    fn subject(state: State, since: u64) -> SubjectStatus {
        let mut subject = SubjectStatus::waiting("", since);
        subject.state = state;
        subject
    }

    fn status(network: State, services: State) -> NodeStatus {
        NodeStatus {
            version: "1.2.3".into(),
            node: Some(NodeIdentity { cluster: "demo".into(), id: 3, name: "n3".into() }),
            bundle: BundleStatus {
                source: Some("/run/trilith/bundle.yaml".into()),
                ..BundleStatus::default()
            },
            subjects: [
                ("network".to_owned(), subject(network, 100)),
                ("services".to_owned(), subject(services, 4000)),
            ]
            .into(),
            peers: BTreeMap::new(),
            addresses: Vec::new(),
            sighting: None,
            installation: None,
            trial: None,
            update: None,
        }
    }

    fn degraded() -> State {
        State::Degraded {
            problems: vec![Problem { object: "eth7".into(), reason: "no such NIC".into() }],
        }
    }

    #[test]
    fn a_person_reads_states_reasons_and_times() {
        let mut status = status(degraded(), State::Retry { error: "no bus".into(), at: 4125 });
        status
            .bundle
            .problems
            .push(Problem { object: "/run/b".into(), reason: "line 3: bad".into() });
        let expected = "\
node n3 (ID 3) of cluster demo, from /run/trilith/bundle.yaml; trilithd 1.2.3
  bundle: /run/b: line 3: bad
network     degraded   for 1 h 6 min
  eth7: no such NIC
services    retry      for 1 min 0 s
  no bus
  again in 1 min 5 s
";
        assert_eq!(full(&status, 4060), expected);
    }

    #[test]
    fn while_a_node_is_installed_nothing_else_is_told() {
        let waiting = || State::Waiting { on: "the node bundle".into() };
        let mut first = status(waiting(), waiting());
        first.installation = Some("installing on sda: copying the release: 10 %".into());
        let expected = "\
node n3 (ID 3) of cluster demo, from /run/trilith/bundle.yaml; trilithd 1.2.3
installing on sda: copying the release: 10 %
";
        assert_eq!(full(&first, 4060), expected);
        let mut second = first.clone();
        second.installation = Some("not installed\n  sda: foreign".into());
        assert_eq!(news(Some(&first), &second), ["not installed", "  sda: foreign"]);
        assert!(news(Some(&second), &second).is_empty());
    }

    #[test]
    fn an_update_is_told_with_its_progress_and_its_progress_is_no_news() {
        let mut first = status(State::Converged, State::Converged);
        let progress = |done| Some(update::Progress { done, of: 8 });
        let doing = Some("fetch the release into slot B".into());
        first.update =
            Some(update::State { doing, progress: progress(3), ..update::State::default() });
        assert!(full(&first, 4060).ends_with("update: fetch the release into slot B: 37 %\n"));
        let mut second = first.clone();
        second.update.as_mut().unwrap().progress = progress(4);
        assert!(news(Some(&first), &second).is_empty());
        second.update.as_mut().unwrap().doing = Some("read slot B back".into());
        assert_eq!(news(Some(&first), &second), ["update: read slot B back"]);
    }

    #[test]
    fn only_news_are_told() {
        let (first, second) =
            (status(degraded(), State::Running), status(State::Converged, State::Converged));
        assert_eq!(
            news(None, &first),
            [
                "node n3 (ID 3) of cluster demo, from /run/trilith/bundle.yaml",
                "network degraded: eth7: no such NIC",
                "services running"
            ]
        );
        assert_eq!(
            news(Some(&first), &second),
            ["network converged", "services converged", "node converged"]
        );
        assert!(news(Some(&second), &second).is_empty());
    }
}
