//! Problems as people read them: like those of a compiler, with the line and a mark below it.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use trilith_core::config::{Problem, Severity};
use trilith_core::explain::{Explanation, Section};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const FRAME: Style = AnsiColor::Blue.on_default().bold();
const BOLD: Style = Style::new().bold();

/// Lines are shown up to here, in characters; a longer one is cut.
const WIDEST: usize = 160;

/// All problems of one file with colours; the caller strips them where nobody sees them.
pub(crate) fn problems(file: &str, text: &str, problems: &[Problem]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    problems.iter().map(|problem| one(file, &lines, problem)).collect()
}

fn one(file: &str, lines: &[&str], problem: &Problem) -> String {
    let Problem { severity, position, path, reason, value, help, secret } = problem;
    let style = if *severity == Severity::Error { ERROR } else { WARNING };
    let number = position.line.to_string();
    let margin = " ".repeat(number.len());
    let mut out = String::new();
    let severity = severity.as_str();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{style}{severity}{style:#}{BOLD}: {reason}{BOLD:#}");
    let at = if path.is_empty() { String::new() } else { format!(": {path}") };
    let _ = writeln!(out, "{margin}{FRAME}-->{FRAME:#} {file}:{number}:{}{at}", position.column);
    let source = lines.get(position.line.saturating_sub(1)).filter(|_| !secret);
    if let Some(source) = source {
        let blank = |c: char| if c.is_control() { ' ' } else { c };
        let shown: String = source.chars().map(blank).take(WIDEST).collect();
        let _ = writeln!(out, "{margin} {FRAME}|{FRAME:#}");
        let _ = writeln!(out, "{FRAME}{number} |{FRAME:#} {}", shown.trim_end());
        let (blank, marks) = mark(position.column, position.length, shown.chars().count());
        let _ = writeln!(out, "{margin} {FRAME}|{FRAME:#} {blank}{style}{marks}{style:#}");
    }
    if let Some(value) = value {
        out += &note(&margin, "value", value);
    }
    if let Some(help) = help {
        out += &note(&margin, "help", help);
    }
    out.push('\n');
    out
}

/// The blanks before the mark, and the mark.
fn mark(column: usize, length: usize, width: usize) -> (String, String) {
    let before = column.saturating_sub(1).min(width);
    let length = length.min(width - before).max(1);
    (" ".repeat(before), "^".repeat(length))
}

/// `= help: …`, further lines indented below the first.
fn note(margin: &str, what: &str, text: &str) -> String {
    let indent = format!("\n{margin}   {}", " ".repeat(what.len() + 2));
    format!("{margin} {FRAME}={FRAME:#} {BOLD}{what}{BOLD:#}: {}\n", text.replace('\n', &indent))
}

/// An explanation as a table: what, value, why.
pub(crate) fn explanation(explanation: &Explanation) -> String {
    let sections: Vec<String> = explanation.sections.iter().map(table).collect();
    sections.join("\n")
}

/// Longer values push their reason aside, so that one of them does not widen the whole table.
const WIDEST_VALUE: usize = 44;

fn table(section: &Section) -> String {
    let Section { title, facts } = section;
    let widest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let names = widest(&mut facts.iter().map(|fact| fact.name.chars().count()));
    let values = facts.iter().map(|fact| fact.value.chars().count());
    let values = widest(&mut values.filter(|width| *width <= WIDEST_VALUE));
    let mut out = format!("{BOLD}{title}{BOLD:#}\n");
    for fact in facts {
        let (name, value, because) = (&fact.name, &fact.value, &fact.because);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {name:names$}  {value:values$}  {FRAME}# {because}{FRAME:#}");
    }
    out
}
