//! The units of a node: their processes, and what the agent's log says of them, and when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Container;

/// Now, by the clock that the nodes' journals have: it is this host's.
pub fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

impl Container<'_> {
    /// The main process of a unit that runs.
    pub fn main_pid(&self, unit: &str) -> Result<u32> {
        let pid = self.property(unit, "MainPID")?.parse().context("no process number")?;
        ensure!(pid > 0, "{}: {unit} does not run", self.name());
        Ok(pid)
    }

    /// A property of a unit, as systemctl shows it; a pattern stands for the units that it fits.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        let shown = self.shell(&format!("systemctl show --property={name} --value '{unit}'"))?;
        Ok(shown.trim().to_owned())
    }

    /// Waits for a line of the agent's log with these words from a moment on, and says how long after that moment it
    /// was written.
    pub fn said(&self, from: Duration, words: &str, patience: Duration) -> Result<Duration> {
        let journal = format!(
            "journalctl --boot --output json --unit trilithd.service --since @{}.{:06}",
            from.as_secs(),
            from.subsec_micros()
        );
        self.until(&format!("the agent says {words:?}"), patience, || {
            let log = self.shell(&journal)?;
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let says =
                |line: &Value| line["MESSAGE"].as_str().is_some_and(|text| text.contains(words));
            let line = lines.find(says).context("not yet")?;
            let time = line["__REALTIME_TIMESTAMP"].as_str().context("no time")?;
            Ok(Duration::from_micros(time.parse()?).saturating_sub(from))
        })
    }
}
