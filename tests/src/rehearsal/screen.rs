//! What people see of a rehearsal, and the same for programs.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Where a rehearsal is shown.
pub struct Screen<'a> {
    out: &'a mut dyn Write,
    json: Option<File>,
    begin: Instant,
}

impl<'a> Screen<'a> {
    /// For people, and for programs in a file, if one is wanted.
    pub fn new(out: &'a mut dyn Write, json: Option<&Path>) -> Result<Self> {
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("cannot write {}", path.display()))
        };
        Ok(Self { out, json: json.map(create).transpose()?, begin: Instant::now() })
    }

    /// A line that says how long it took to come so far.
    pub fn say(&mut self, text: &str) -> Result<()> {
        let seconds = self.begin.elapsed().as_secs();
        self.line(&format!("[{seconds:>4} s] {text}"))
    }

    /// A line.
    pub fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// A line for programs.
    pub fn record(&mut self, value: &Value) -> Result<()> {
        self.json.as_mut().map_or(Ok(()), |file| Ok(writeln!(file, "{value}")?))
    }
}
