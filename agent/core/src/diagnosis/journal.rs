//! Lines of the journal.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The fields of an entry that are looked at (systemd.journal-fields(7)), for `journalctl --output-fields`.
pub const FIELDS: &str = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_COMM,_PID,_SYSTEMD_UNIT";

/// The most lines that can be asked for at once.
pub const MOST: u32 = 100_000;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When it was written, in microseconds since 1970-01-01 UTC of the node's clock.
    pub at: u64,
    /// Who wrote it, as it calls itself.
    pub name: String,
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// How bad it is: from 0, an emergency, to 7 (syslog(3)).
    pub priority: u8,
    /// What it says.
    pub text: String,
}

impl Line {
    /// Reads one entry as `journalctl --output=json` writes it. `None`: it is none.
    pub fn parse(json: &str) -> Option<Self> {
        let entry: Value = serde_json::from_str(json).ok()?;
        let field = |name: &str| text(entry.get(name)?);
        Some(Self {
            at: field("__REALTIME_TIMESTAMP")?.parse().ok()?,
            name: field("SYSLOG_IDENTIFIER").or_else(|| field("_COMM")).unwrap_or_default(),
            pid: field("_PID").and_then(|pid| pid.parse().ok()),
            unit: field("_SYSTEMD_UNIT"),
            priority: field("PRIORITY").and_then(|level| level.parse().ok()).unwrap_or(6),
            text: field("MESSAGE").unwrap_or_else(|| "(too long to be shown)".into()),
        })
    }
}

/// A field's text: bytes that are no text come as a list of numbers, one that stands there twice as a list of both.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let bytes: Option<Vec<u8>> =
                parts.iter().map(|part| u8::try_from(part.as_u64()?).ok()).collect();
            bytes.map_or_else(
                || parts.first().and_then(text),
                |bytes| Some(String::from_utf8_lossy(&bytes).into_owned()),
            )
        }
        _ => None,
    }
}

/// `2026-11-21T11:54:02Z trilithd[612]: network converged`; further lines are indented.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, name, pid, unit: _, priority: _, text } = self;
        let when = UNIX_EPOCH.checked_add(Duration::from_micros(*at)).unwrap_or(UNIX_EPOCH);
        write!(f, "{} {name}", humantime::format_rfc3339_seconds(when))?;
        if let Some(pid) = pid {
            write!(f, "[{pid}]")?;
        }
        // What a program wrote must not move the cursor of the person who reads it.
        let safe = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
        for (number, line) in text.lines().enumerate() {
            let line: String = line.replace('\t', "    ").chars().map(safe).collect();
            write!(f, "{}{line}", if number == 0 { ": " } else { "\n    " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_journalctl_writes_them() {
        let json = r#"{"__REALTIME_TIMESTAMP":"1763726042123456","SYSLOG_IDENTIFIER":"trilithd","_PID":"612",
            "_SYSTEMD_UNIT":"trilithd.service","PRIORITY":"4","MESSAGE":"one\ntwo\u001b[2J"}"#;
        let line = Line::parse(json).unwrap();
        assert_eq!((line.priority, line.unit.as_deref()), (4, Some("trilithd.service")));
        assert_eq!(line.to_string(), "2025-11-21T11:54:02Z trilithd[612]: one\n    two\u{fffd}[2J");
        let text = |message: &str| {
            Line::parse(&format!(r#"{{"__REALTIME_TIMESTAMP":"1","MESSAGE":{message}}}"#))
                .unwrap()
                .text
        };
        assert_eq!(text("[104,105,255]"), "hi\u{fffd}");
        assert_eq!(text(r#"["first","second"]"#), "first");
        assert_eq!(text("null"), "(too long to be shown)");
        assert_eq!(Line::parse("-- No entries --"), None);
    }
}
