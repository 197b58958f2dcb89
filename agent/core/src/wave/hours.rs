//! When nodes may restart.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{Weekday, Window};

/// Whether nodes may restart now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hours {
    /// They may.
    #[default]
    Open,
    /// They may not, and why.
    Closed(String),
}

/// Minutes of a day.
const DAY: u64 = 24 * 60;

/// Judges the cluster file's window at a time in seconds since 1970-01-01 UTC; `None`: the clock is not known to be
/// right. Only the beginning of a restart must lie in the window.
pub fn hours(window: Option<&Window>, now: Option<u64>) -> Hours {
    let Some(window) = window else { return Hours::Open };
    let Some(now) = now else {
        return Hours::Closed(
            "this node's clock is not set yet, and the cluster file has a window".into(),
        );
    };
    let (day, minute) = ((now / 60) / DAY, (now / 60) % DAY);
    let (from, to) = (u64::from(window.from.minutes()), u64::from(window.to.minutes()));
    let begins = |day: u64| window.days.contains(&weekday(day));
    let open = if from < to {
        begins(day) && (from..to).contains(&minute)
    } else {
        // It passes midnight: the evening of its day, or the morning after.
        (begins(day) && minute >= from) || (day > 0 && begins(day - 1) && minute < to)
    };
    if open { Hours::Open } else { Hours::Closed(format!("the window is {}", words(window))) }
}

/// 1970-01-01 was a Thursday.
fn weekday(day: u64) -> Weekday {
    let at = usize::try_from((day + 3) % 7).unwrap_or_default();
    Weekday::ALL[at]
}

fn words(window: &Window) -> String {
    let days: Vec<String> = window.days.iter().map(|day| format!("{day:?}")).collect();
    format!("{} {} to {} UTC", days.join(", "), window.from, window.to)
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Closed(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Weekday], from: &str, to: &str) -> Window {
        let time = |text: &str| text.to_owned().try_into().unwrap();
        Window { days: days.iter().copied().collect(), from: time(from), to: time(to) }
    }

    /// 2026-11-21 00:00 UTC, a Saturday.
    const SATURDAY: u64 = 1_795_219_200;

    fn open(window: &Window, hour: u64, minute: u64) -> bool {
        hours(Some(window), Some(SATURDAY + hour * 3600 + minute * 60)) == Hours::Open
    }

    #[test]
    fn within_a_day() {
        let window = window(&[Weekday::Sat], "02:30", "04:00");
        for (hour, minute, expected) in
            [(2, 29, false), (2, 30, true), (3, 59, true), (4, 0, false), (26, 30, false)]
        {
            assert_eq!(open(&window, hour, minute), expected, "{hour}:{minute}");
        }
    }

    #[test]
    fn past_midnight() {
        let window = window(&[Weekday::Sat], "22:00", "02:00");
        for (hour, expected) in
            [(1, false), (21, false), (22, true), (25, true), (26, false), (46, false)]
        {
            assert_eq!(open(&window, hour, 0), expected, "{hour}");
        }
    }

    #[test]
    fn the_whole_day_and_no_window() {
        let window = window(&[Weekday::Sat], "00:00", "00:00");
        assert!(open(&window, 0, 0) && open(&window, 23, 59) && !open(&window, 24, 0));
        assert_eq!(hours(None, None), Hours::Open);
    }

    #[test]
    fn a_clock_that_is_not_set_opens_nothing() {
        let window = window(&Weekday::ALL, "00:00", "00:00");
        let Hours::Closed(why) = hours(Some(&window), None) else { panic!("open") };
        assert!(why.contains("clock"));
    }
}
