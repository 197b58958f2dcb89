//! What the journal has of a unit in trouble. Only then is it asked: journalctl is a process of its own, and the
//! journal's library is one more thing that every agent would carry.

use serde::Deserialize;
use trilith_core::services::UnitName;

use crate::system::exec;

/// How many lines.
const LINES: &str = "--lines=5";
/// How much of each.
const LONGEST: usize = 200;

/// The message of systemd that it will restart a unit (`SD_MESSAGE_UNIT_RESTART_SCHEDULED`, sd-messages(3)).
const RESTART_SCHEDULED: &str = "MESSAGE_ID=5eb03494b6584870a536b337290809b3";

/// The last lines that the unit itself wrote. A journal that cannot be read is no reason to know nothing of the unit.
pub(super) async fn last_lines(unit: &UnitName) -> Vec<String> {
    let own = format!("_SYSTEMD_UNIT={unit}");
    let said = exec::run("journalctl", &["--quiet", "--output=cat", LINES, &own]).await;
    match said {
        Ok(text) => lines(&text),
        Err(error) => vec![error.to_string()],
    }
}

fn lines(text: &str) -> Vec<String> {
    let line = |line: &str| line.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    text.lines().filter(|line| !line.trim().is_empty()).map(line).collect()
}

/// When systemd restarted the unit for the first time of those that it counts, in seconds since 1970-01-01 UTC.
pub(super) async fn first_restart(unit: &UnitName, restarts: u32) -> Option<u64> {
    if restarts == 0 {
        return None;
    }
    let about = format!("UNIT={unit}");
    let args = ["--quiet", "--output=json", "--lines=1", RESTART_SCHEDULED, "N_RESTARTS=1", &about];
    parse_time(&exec::run("journalctl", &args).await.ok()?)
}

#[derive(Deserialize)]
struct Entry {
    /// Microseconds since 1970-01-01 UTC.
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time: String,
}

fn parse_time(entry: &str) -> Option<u64> {
    let entry: Entry = serde_json::from_str(entry.lines().next()?).ok()?;
    Some(entry.time.parse::<u64>().ok()? / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_short_and_without_control_characters() {
        let long = "x".repeat(999);
        let said = lines(&format!("one\n\n\u{1b}[31mred\u{1b}[0m\t\n{long}\n"));
        assert_eq!(said, ["one", "[31mred[0m", &long[..LONGEST]]);
    }

    #[test]
    fn the_time_of_an_entry() {
        let entry = r#"{"__REALTIME_TIMESTAMP":"1795240800123456","MESSAGE":"x","N_RESTARTS":"1"}"#;
        assert_eq!(parse_time(entry), Some(1_795_240_800));
        assert_eq!(parse_time(""), None);
    }
}
