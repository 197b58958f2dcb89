//! `trilith config`: judges and explains the cluster file.

mod render; // problems as people read them

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;
use trilith_core::config::{self, Judged, Problem, Severity};
use trilith_core::explain;
use trilith_core::names::NodeId;

use crate::exit::{self, Exit};

/// Judge and explain the cluster file.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Report every problem of one or more cluster files.
    Check {
        /// Cluster files; `-` is standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Print the problems as JSON, for editors.
        #[arg(long)]
        json: bool,
    },
    /// Show everything that follows for one node, each with its derivation.
    Explain {
        /// The cluster file; `-` is standard input.
        file: PathBuf,
        /// The node's ID.
        #[arg(long, value_name = "ID", value_parser = node_id)]
        node: NodeId,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the cluster file.
    Schema,
}

/// Carries out one command.
pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Check { files, json } => check(&files, json),
        Command::Explain { file, node, json } => explain(&file, node, json),
        Command::Schema => schema(),
    }
}

/// A node ID on the command line.
pub(crate) fn node_id(text: &str) -> Result<NodeId, String> {
    let rule = "a node ID is a whole number from 1 to 65535";
    let number: u16 = text.parse().map_err(|_| rule.to_owned())?;
    NodeId::try_from(number).map_err(|error| error.to_string())
}

/// Prints the problems of a file to standard error.
pub(crate) fn complain(file: &Path, text: &str, problems: &[Problem]) -> anyhow::Result<()> {
    let rendered = render::problems(&file.display().to_string(), text, problems);
    let mut err = anstream::stderr().lock();
    err.write_all(rendered.as_bytes()).context("cannot write to standard error")
}

/// Reads a cluster file; `-` is standard input.
pub(crate) fn read(file: &Path) -> anyhow::Result<String> {
    let reading = || format!("cannot read {}", file.display());
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).with_context(reading)?;
    } else {
        bytes = std::fs::read(file).with_context(reading)?;
    }
    String::from_utf8(bytes).map_err(|error| not_utf8(&error)).with_context(reading)
}

fn not_utf8(error: &std::string::FromUtf8Error) -> anyhow::Error {
    let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line = good.split(|byte| *byte == b'\n').count();
    anyhow::anyhow!("line {line} is not UTF-8")
}

fn check(files: &[PathBuf], json: bool) -> anyhow::Result<Exit> {
    let mut reports = Vec::new();
    for file in files {
        let text = read(file)?;
        let judged = config::judge(&text);
        reports.push(Report { file: file.display().to_string(), text, judged });
    }
    if json {
        print_json(&reports)?;
    } else {
        print_text(&reports)?;
    }
    let bad = reports.iter().any(|report| report.judged.config.is_none());
    Ok(if bad { Exit::BadConfig } else { Exit::Ok })
}

/// What was found in one file.
struct Report {
    file: String,
    text: String,
    judged: Judged,
}

/// A problem as editors take it.
#[derive(Serialize)]
struct InFile<'a> {
    file: &'a str,
    #[serde(flatten)]
    problem: &'a Problem,
}

fn print_json(reports: &[Report]) -> anyhow::Result<()> {
    let problems: Vec<InFile<'_>> = reports
        .iter()
        .flat_map(|report| {
            let file = report.file.as_str();
            report.judged.problems.iter().map(move |problem| InFile { file, problem })
        })
        .collect();
    print(&format!("{}\n", serde_json::to_string_pretty(&problems)?))
}

fn print_text(reports: &[Report]) -> anyhow::Result<()> {
    for report in reports {
        print(&render::problems(&report.file, &report.text, &report.judged.problems))?;
        print(&format!("{}\n", summary(report)))?;
    }
    Ok(())
}

/// `cluster.yaml: 2 errors, 1 warning`, or what the cluster is.
fn summary(report: &Report) -> String {
    let Report { file, text: _, judged: Judged { config, problems } } = report;
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let counted = |severity: Severity| match count(severity) {
        1 => format!("1 {}", severity.as_str()),
        n => format!("{n} {}s", severity.as_str()),
    };
    let warnings = if count(Severity::Warning) == 0 {
        String::new()
    } else {
        format!(", {}", counted(Severity::Warning))
    };
    match config {
        None => format!("{file}: {}{warnings}", counted(Severity::Error)),
        Some(config) => format!(
            "{file}: fine: cluster {}, {} nodes, {} coordinators{warnings}",
            config.name,
            config.nodes.len(),
            config.coordinators.len()
        ),
    }
}

fn explain(file: &Path, node: NodeId, json: bool) -> anyhow::Result<Exit> {
    let text = read(file)?;
    let config = match config::load(&text) {
        Ok(config) => config,
        Err(problems) => {
            complain(file, &text, &problems)?;
            return Ok(Exit::BadConfig);
        }
    };
    let Some(explanation) = explain::explain(&config, node) else {
        return Ok(exit::usage(&format!("{} has no node {node}", file.display())));
    };
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&explanation)?))?;
    } else {
        print(&render::explanation(&explanation))?;
    }
    Ok(Exit::Ok)
}

fn schema() -> anyhow::Result<Exit> {
    print(&format!("{}\n", serde_json::to_string_pretty(&config::schema())?))?;
    Ok(Exit::Ok)
}

/// Writes to standard output, without colours if it is not a terminal.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write the output")
}

#[cfg(test)]
mod tests;
