//! From what is known to lines, and from lines to cells. Pure: what is shown follows from what came, and no time passes
//! by itself, so that nothing changes on the screen while nothing happens.

use std::time::{Duration, UNIX_EPOCH};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};
use trilith_core::gate::Said;
use trilith_core::status::{NodeStatus, State, SubjectStatus};

use crate::keys::Deed;

/// What can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Page {
    /// Every subject, and who the node is.
    #[default]
    Status,
    /// The journal, as it goes on.
    Logs,
    /// Links, addresses, routes, sessions.
    Net,
    /// Disks.
    Disks,
    /// The question whether to start the machine again.
    Reboot,
}

/// What is known, and what of it is looked at.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    pub(crate) page: Page,
    status: Option<NodeStatus>,
    /// Why the agent does not answer.
    silent: Option<String>,
    /// What the page shows; the status page is made of the status.
    lines: Vec<String>,
    /// The first line that is seen.
    top: usize,
    /// How many lines there are, and how many of them are seen, at the last drawing.
    seen: (usize, usize),
    /// Whether the last line is to stay in sight.
    follows: bool,
}

/// The journal's lines that are kept to look back at.
const KEPT: usize = 2000;

impl Screen {
    pub(crate) fn set_status(&mut self, status: NodeStatus) {
        (self.status, self.silent) = (Some(status), None);
    }

    pub(crate) fn set_silent(&mut self, reason: String) {
        self.silent = Some(reason);
    }

    /// What a page shows; of another one, nothing.
    pub(crate) fn set_lines(&mut self, page: Page, lines: Vec<String>) {
        if self.page == page {
            self.lines = lines;
        }
    }

    /// The journal goes on.
    pub(crate) fn add_lines(&mut self, lines: Vec<String>) {
        if self.page == Page::Logs {
            self.lines.extend(lines);
            let old = self.lines.len().saturating_sub(KEPT);
            self.lines.drain(..old);
        }
    }

    /// Shows another page from its beginning, the journal from its end.
    pub(crate) fn turn(&mut self, page: Page) {
        let waits = matches!(page, Page::Net | Page::Disks);
        (self.page, self.top, self.follows) = (page, 0, page == Page::Logs);
        self.lines = if waits { vec!["…".into()] } else { Vec::new() };
    }

    /// Nearly a whole screen.
    pub(crate) fn step(&self) -> isize {
        isize::try_from(self.seen.1.saturating_sub(1)).unwrap_or(1).max(1)
    }

    pub(crate) fn scroll(&mut self, by: isize) -> Deed {
        let last = self.seen.0.saturating_sub(self.seen.1);
        self.top = self.top.saturating_add_signed(by).min(last);
        self.follows = self.page == Page::Logs && self.top == last;
        Deed::Draw
    }
}

/// Shows it all.
pub(crate) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let rows = [Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(title(screen)).reversed(), head);
    let text = Paragraph::new(page(screen)).wrap(Wrap { trim: false });
    place(screen, text.line_count(body.width), body);
    let top = u16::try_from(screen.top).unwrap_or(u16::MAX);
    frame.render_widget(text.scroll((top, 0)), body);
    frame.render_widget(Paragraph::new(help(screen)).reversed(), foot);
}

/// Keeps what is seen within what there is.
fn place(screen: &mut Screen, all: usize, body: Rect) {
    screen.seen = (all, body.height.into());
    let last = all.saturating_sub(body.height.into());
    screen.top = if screen.follows { last } else { screen.top.min(last) };
}

fn title(screen: &Screen) -> String {
    let Some(status) = &screen.status else { return " Trilith".into() };
    let who = match &status.node {
        Some(node) => format!("{} (ID {}) of cluster {}", node.name, node.id, node.cluster),
        None => "this machine does not know who it is".into(),
    };
    format!(" {who}  Trilith {}", status.version)
}

fn help(screen: &Screen) -> String {
    if screen.page == Page::Reboot {
        return " y reboot   any other key: back".into();
    }
    let (all, seen) = screen.seen;
    let more = if all > seen {
        format!("  {}/{all}", (screen.top + seen).min(all))
    } else {
        String::new()
    };
    format!(" s status  l logs  n network  d disks  r reboot  arrows scroll{more}")
}

fn page(screen: &Screen) -> Vec<Line<'static>> {
    let lines = screen.lines.iter().cloned().map(Line::from);
    match screen.page {
        Page::Status => overview(screen),
        Page::Logs | Page::Net | Page::Disks => lines.collect(),
        Page::Reboot => vec![
            Line::default(),
            Line::from("  Start this machine again?").bold(),
            Line::default(),
            Line::from(
                "  Machines that run on it are stopped. Nobody is asked whether the cluster",
            ),
            Line::from(
                "  can do without this node for that time: the status page shows its quorums.",
            ),
        ],
    }
}

fn overview(screen: &Screen) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(reason) = &screen.silent {
        lines.push(Line::from(format!("the agent is silent: {reason}")).style(bad()));
    }
    let Some(status) = &screen.status else { return lines };
    lines.extend(origin(status));
    let trial = status.trial.iter().flat_map(Said::lines);
    lines.extend(trial.map(|line| Line::from(line).style(Style::new().fg(Color::Yellow))));
    if let Some(installation) = &status.installation {
        // Nothing else is brought up meanwhile.
        lines.extend(installation.lines().map(|line| Line::from(line.to_owned())));
        return lines;
    }
    lines.extend(status.subjects.iter().flat_map(|(name, subject)| about(name, subject)));
    lines.extend(status.peers.iter().map(|(name, peer)| {
        let (word, style) = match &peer.silent {
            None => ("answers".to_owned(), Style::new()),
            Some(reason) => (format!("silent: {reason}"), bad()),
        };
        Line::from(vec![Span::raw(format!("peer {name:<7}")), Span::styled(word, style)])
    }));
    lines
}

/// Where the node is reached, and what is to be said of its bundle.
fn origin(status: &NodeStatus) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if !status.addresses.is_empty() {
        lines.push(Line::from(format!("addresses   {}", status.addresses.join("  "))));
    }
    let problems = status.bundle.problems.iter().map(|it| format!("bundle: {it}"));
    let warnings = status.bundle.warnings.iter().map(|it| format!("warning: {it}"));
    lines.extend(problems.chain(warnings).map(|text| Line::from(text).style(bad())));
    if let Some(seen) = &status.sighting {
        lines.push(Line::from("no node bundle").style(bad()));
        lines.extend(seen.lines().map(|line| Line::from(line.to_owned())));
        lines.push(Line::default());
    }
    lines
}

fn about(name: &str, subject: &SubjectStatus) -> Vec<Line<'static>> {
    let style = match subject.state {
        State::Converged => Style::new().fg(Color::Green),
        State::Running | State::Waiting { .. } => Style::new().fg(Color::Yellow),
        State::Degraded { .. } | State::Retry { .. } => bad(),
    };
    let first = vec![
        Span::raw(format!("{name:<12}")),
        Span::styled(format!("{:<10}", subject.state.name()), style),
        Span::raw(format!("since {}", moment(subject.since))),
    ];
    let mut lines = vec![Line::from(first)];
    let reasons = match &subject.state {
        State::Running | State::Converged => Vec::new(),
        State::Waiting { on } => vec![format!("for {on}")],
        State::Degraded { problems } => problems.iter().map(ToString::to_string).collect(),
        State::Retry { error, at: _ } => vec![error.clone()],
    };
    lines.extend(reasons.iter().map(|text| below(text).style(style)));
    let details = &subject.details;
    let quorum = [("", details.role.as_ref()), ("leader ", details.leader.as_ref())];
    let quorum = quorum.iter().filter_map(|(word, value)| Some(format!("{word}{}", (*value)?)));
    let members = details.members.iter().map(|(name, word)| format!("{name} {word}"));
    let members = Some(members.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty());
    let quorum: Vec<String> = quorum.chain(members).collect();
    if !quorum.is_empty() {
        lines.push(below(&quorum.join("; ")));
    }
    lines
}

fn below(text: &str) -> Line<'static> {
    Line::from(format!("  {text}"))
}

fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

/// `11-21 11:54:02`, UTC: a span of time would change by itself.
fn moment(since: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(since)).unwrap_or(UNIX_EPOCH);
    let text = humantime::format_rfc3339_seconds(at).to_string();
    format!("{} UTC", text.get(5..19).unwrap_or_default().replace('T', " "))
}

#[cfg(test)]
mod tests;
