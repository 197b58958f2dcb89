//! The status as Prometheus text (exposition format 0.0.4). A registry would be a second place that holds the
//! same numbers; this is a view of the one value, and the format is a few lines.

use std::fmt::{Display, Write as _};

use trilith_core::status::{NodeStatus, State, SubjectStatus};

/// Every metric of the node.
pub(super) fn render(status: &NodeStatus) -> String {
    let mut text = Text::default();
    text.head("trilith_build_info", "gauge", "The agent's version; the value is always 1.");
    text.sample("trilith_build_info", &[("version", &status.version)], 1);
    if let Some(node) = &status.node {
        text.head("trilith_node_info", "gauge", "Who the node is; the value is always 1.");
        let labels =
            [("cluster", &*node.cluster), ("id", &node.id.to_string()), ("name", &node.name)];
        text.sample("trilith_node_info", &labels, 1);
    }
    text.head(
        "trilith_converged",
        "gauge",
        "Whether the node has a good bundle and all subjects converged.",
    );
    text.sample("trilith_converged", &[], u8::from(status.is_converged()));
    text.head("trilith_bundle_problems", "gauge", "Problems of the bundle that was found last.");
    text.sample("trilith_bundle_problems", &[], status.bundle.problems.len());
    text.head("trilith_warnings", "gauge", "What will go wrong if nobody does anything.");
    text.sample("trilith_warnings", &[], status.bundle.warnings.len());
    if let Some(ends) = status.bundle.certificate_ends {
        let name = "trilith_certificate_end_seconds";
        text.head(name, "gauge", "The last second in which the node's certificate holds.");
        text.sample(name, &[], ends);
    }
    render_subjects(status, &mut text);
    text.0
}

fn render_subjects(status: &NodeStatus, text: &mut Text) {
    text.head(
        "trilith_subject_state",
        "gauge",
        "1 for the state that the subject is in, 0 for the others.",
    );
    for (name, subject) in &status.subjects {
        for state in State::NAMES {
            let labels = [("subject", &**name), ("state", state)];
            text.sample("trilith_subject_state", &labels, u8::from(subject.state.name() == state));
        }
    }
    for (name, kind, help, value) in OF_EACH_SUBJECT {
        text.head(name, kind, help);
        for (subject, about) in &status.subjects {
            text.sample(name, &[("subject", subject)], value(about));
        }
    }
}

/// A metric's name, kind, help, and its value for one subject.
type OfSubject = (&'static str, &'static str, &'static str, fn(&SubjectStatus) -> String);

const OF_EACH_SUBJECT: [OfSubject; 6] = [
    ("trilith_subject_state_since_seconds", "gauge", "When it entered its state.", |subject| {
        subject.since.to_string()
    }),
    ("trilith_subject_problems", "gauge", "What stands in its way.", |subject| {
        problems(&subject.state).to_string()
    }),
    ("trilith_subject_steps_applied_total", "counter", "Steps applied.", |subject| {
        subject.steps_applied.to_string()
    }),
    ("trilith_subject_passes_total", "counter", "Passes made.", |subject| {
        subject.passes.to_string()
    }),
    (
        "trilith_subject_requests_total",
        "counter",
        "Questions and orders put to the service.",
        |subject| subject.requests.to_string(),
    ),
    ("trilith_subject_last_pass_seconds", "gauge", "How long the last pass took.", |subject| {
        format!("{}.{:06}", subject.last_pass_us / 1_000_000, subject.last_pass_us % 1_000_000)
    }),
];

fn problems(state: &State) -> usize {
    match state {
        State::Degraded { problems } => problems.len(),
        State::Retry { .. } => 1,
        State::Waiting { .. } | State::Running | State::Converged => 0,
    }
}

/// The text as it grows. Writing to a `String` cannot fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let escape =
            |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> =
            labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escape(text))).collect();
        let braces =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{braces} {value}");
    }
}
