//! What is wrong with a cluster file, where, and what to write instead.

use std::collections::HashMap;

use serde::Serialize;

use super::spots::{Spot, Spots};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can be used, and somebody should look at it.
    Warning,
}

impl Severity {
    /// The word that people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A stretch of text within one line of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters (a tab counts as one).
    pub column: usize,
    /// How many characters; 0 if unknown.
    pub length: usize,
}

/// One problem of a cluster file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands in the text.
    #[serde(flatten)]
    pub position: Position,
    /// The YAML path, such as `nodes[2].networks.cluster.ipv4.address`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// The offending value; `None` where there is none, or where it may be a secret.
    pub value: Option<String>,
    /// What to write instead.
    pub help: Option<String>,
    /// Whether the line must not be shown, because it may hold a secret.
    pub secret: bool,
}

/// A problem while it is being described.
#[derive(Debug)]
pub(super) struct Draft {
    severity: Severity,
    spot: Spot,
    on_key: bool,
    /// It is told of a secret as such.
    secret: bool,
    reason: String,
    value: Option<String>,
    help: Option<String>,
    nodes: Vec<String>,
}

impl Draft {
    /// What to write instead.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The offending value, where it is not simply the scalar at the spot.
    pub(super) fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// It tells that the value is a secret. Other problems of a secret are left out: it goes away anyway.
    pub(super) fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// It is the key that is wrong, not the value.
    pub(super) fn on_key(mut self) -> Self {
        self.on_key = true;
        self
    }

    /// On which node it shows, if the spot lies outside of that node, in the defaults of all.
    pub(super) fn seen_on(mut self, node: Spot, label: &str, spots: &Spots) -> Self {
        if !spots.is_below(self.spot, node) {
            self.nodes.push(label.to_owned());
        }
        self
    }
}

/// An error at a spot.
pub(super) fn error(spot: Spot, reason: impl Into<String>) -> Draft {
    let reason = reason.into();
    let (value, help, nodes) = (None, None, Vec::new());
    Draft {
        severity: Severity::Error,
        spot,
        on_key: false,
        secret: false,
        reason,
        value,
        help,
        nodes,
    }
}

/// A warning at a spot.
pub(super) fn warning(spot: Spot, reason: impl Into<String>) -> Draft {
    Draft { severity: Severity::Warning, ..error(spot, reason) }
}

/// All problems found so far. The same one found through several nodes is kept once, with the nodes' names.
#[derive(Debug, Default)]
pub(super) struct Problems {
    drafts: Vec<Draft>,
    seen: HashMap<(Spot, String), usize>,
    errors: bool,
    /// How many were not kept.
    more: usize,
}

/// So many are kept: nobody reads more, and a file of megabytes could have millions.
const MOST_KEPT: usize = 10_000;

/// So many nodes are named in one message.
const NODES_NAMED: usize = 3;

impl Problems {
    /// Adds one.
    pub(super) fn push(&mut self, draft: Draft) {
        self.errors |= draft.severity == Severity::Error;
        let next = self.drafts.len();
        if next >= MOST_KEPT {
            self.more += 1;
            return;
        }
        let at = *self.seen.entry((draft.spot, draft.reason.clone())).or_insert(next);
        match self.drafts.get_mut(at) {
            Some(known) => known.nodes.extend(draft.nodes),
            None => self.drafts.push(draft),
        }
    }

    /// Whether any of them is an error.
    pub(super) fn has_errors(&self) -> bool {
        self.errors
    }

    /// Finished messages, in the order of the file. What shows on all of `all_nodes` names none of them.
    pub(super) fn finish(self, spots: &Spots, all_nodes: usize) -> Vec<Problem> {
        let drafts = self.drafts.into_iter();
        let drafts = drafts.filter(|draft| draft.secret || !spots.is_secret(draft.spot));
        let mut problems: Vec<Problem> =
            drafts.map(|draft| finish(draft, spots, all_nodes)).collect();
        problems.sort_by(|a, b| {
            (a.position, a.severity, &a.reason).cmp(&(b.position, b.severity, &b.reason))
        });
        // What stands behind several aliases is one text to mend.
        problems.dedup_by(|a, b| (a.position, &a.reason) == (b.position, &b.reason));
        if self.more > 0 {
            let reason = format!("{} more problems are not shown", self.more);
            let draft =
                if self.errors { error(Spot::ROOT, reason) } else { warning(Spot::ROOT, reason) };
            problems.push(finish(draft, spots, 0));
        }
        problems
    }
}

fn finish(draft: Draft, spots: &Spots, all_nodes: usize) -> Problem {
    let Draft { severity, spot, on_key, secret: _, reason, value, help, nodes } = draft;
    let position = if on_key { spots.key_position(spot) } else { spots.position(spot) };
    let hidden = spots.is_secret(spot);
    let value = value.or_else(|| if on_key { None } else { spots.scalar(spot).map(shorten) });
    Problem {
        severity,
        position,
        path: spots.path(spot),
        reason: visible(&if nodes.len() < all_nodes { reason + &named(&nodes) } else { reason }),
        value: value.filter(|value| !hidden && !value.is_empty()).map(|value| visible(&value)),
        help: help.map(|help| visible(&help)),
        secret: hidden || spots.is_secret_line(position.line),
    }
}

/// ` (on a, b, c and 4 more nodes)`, or nothing.
fn named(nodes: &[String]) -> String {
    let more = nodes.len().saturating_sub(NODES_NAMED);
    let first = nodes.iter().take(NODES_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match (nodes.len(), more) {
        (0, _) => String::new(),
        (1, _) => format!(" (on node {first})"),
        (_, 0) => format!(" (on nodes {first})"),
        (_, more) => format!(" (on nodes {first} and {more} more)"),
    }
}

/// Control characters, which an escape in the file may bring in, must not reach a terminal.
fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => c.to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Long values are cut: the position shows the rest.
fn shorten(value: &str) -> String {
    const MOST: usize = 80;
    let line = value.lines().next().unwrap_or_default();
    if line.chars().count() <= MOST && line.len() == value.len() {
        return line.to_owned();
    }
    line.chars().take(MOST).chain(['…']).collect()
}
