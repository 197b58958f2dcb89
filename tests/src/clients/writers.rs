//! Three programs that write all the time: what a wave costs is what they see.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{Client, furnish};
use crate::lab::Lab;

const NAME: &str = "writer.py";
const PROGRAM: &str = include_str!("writer.py");

/// What they write to.
pub const KINDS: [&str; 3] = ["zookeeper", "postgres", "rbd"];

/// How long the first write may take, and at the end the reading of all of them.
const PATIENCE: Duration = Duration::from_mins(2);

/// They write as long as this is not ended.
#[derive(Debug)]
pub struct Writers {
    all: Vec<Client<Said>>,
    /// What they need, as long as they run.
    _folder: TempDir,
}

/// What one of them says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    /// It has begun.
    Writes(bool),
    /// How a second went.
    Second(Tick),
    /// How all went.
    Report(Report),
}

/// How one second went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Which: seconds since 1970-01-01 UTC.
    #[serde(skip_serializing)]
    pub second: u64,
    /// Writes that came through.
    pub written: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// The longest time without a write that ended in this second or goes on, in seconds.
    pub pause: f64,
}

/// What one has seen, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it has written to.
    pub kind: String,
    /// Writes that came through.
    pub written: u64,
    /// Attempts that failed, and were made again.
    pub errors: u64,
    /// The same by the kind of error.
    pub kinds: std::collections::BTreeMap<String, u64>,
    /// Writes that came through and were not there at the end.
    pub lost: Vec<u64>,
    /// Between two writes that came through, at worst.
    pub worst: f64,
    /// The same, in the median.
    pub median: f64,
}

impl Writers {
    /// Starts them, and waits until each has written for the first time.
    pub fn start(lab: &Lab) -> Result<Self> {
        let folder = lab.scratch()?;
        furnish(lab, folder.path())?;
        fs::write(folder.path().join(NAME), PROGRAM)?;
        let program = format!("/mnt/{NAME}");
        let start = |kind: &&str| Client::start(lab, folder.path(), &[&program, kind]);
        let all = KINDS.iter().map(start).collect::<Result<Vec<Client<Said>>>>()?;
        for (writer, kind) in all.iter().zip(KINDS) {
            let said = writer.next(PATIENCE);
            ensure!(
                matches!(said, Ok(Said::Writes(true))),
                "{kind} cannot be written to: {said:?}"
            );
        }
        Ok(Self { all, _folder: folder })
    }

    /// The seconds that are news, each with the number of the writer in [`KINDS`].
    pub fn seconds(&self) -> Result<Vec<(usize, Tick)>> {
        let mut seconds = Vec::new();
        for (number, writer) in self.all.iter().enumerate() {
            let ticks = writer.news()?.into_iter().filter_map(|said| match said {
                Said::Second(tick) => Some((number, tick)),
                Said::Writes(_) | Said::Report(_) => None,
            });
            seconds.extend(ticks);
        }
        Ok(seconds)
    }

    /// Has them read all that they have written, and say how it went.
    pub fn end(mut self) -> Result<Vec<Report>> {
        self.all.iter_mut().for_each(Client::close);
        self.all.iter().map(report).collect()
    }
}

/// What a writer says at its end.
fn report(writer: &Client<Said>) -> Result<Report> {
    loop {
        match writer.next(PATIENCE)? {
            Said::Report(report) => return Ok(report),
            Said::Second(_) => {}
            Said::Writes(_) => bail!("a writer begins once more"),
        }
    }
}
