//! Numbers with units.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BadValue;

/// A whole number from 1 to 65535.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u16", into = "u16")]
pub struct Count(u16);

impl Count {
    /// The number 1.
    pub const ONE: Self = Self(1);

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Count {
    type Error = BadValue;

    fn try_from(number: u16) -> Result<Self, BadValue> {
        if number == 0 {
            return Err(BadValue("a whole number from 1 to 65535 is expected here".to_owned()));
        }
        Ok(Self(number))
    }
}

impl From<Count> for u16 {
    fn from(count: Count) -> Self {
        count.0
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Splits `30s` into the number and the unit.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    Some((number.parse().ok()?, unit))
}

/// The largest unit that divides the number without a rest.
fn write_units(f: &mut fmt::Formatter<'_>, n: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = units.iter().rev().find(|(_, size)| n > 0 && n.is_multiple_of(*size));
    let (unit, size) = fits.or(units.first()).copied().unwrap_or(("", 1));
    write!(f, "{}{unit}", n / size)
}

/// The name by which the reader of the cluster file knows a number with a unit.
pub(crate) const QUANTITY: &str = "Quantity";

/// The text of a number with a unit.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
struct Quantity(String);

/// A length of time: a whole number and one of ms, s, m, h, d. At most 365 days.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "Quantity", into = "String")]
pub struct Period(#[schemars(with = "String")] Duration);

const PERIOD_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Period {
    /// So many seconds.
    pub const fn seconds(n: u32) -> Self {
        Self(Duration::from_secs(n as u64))
    }

    /// So many milliseconds.
    pub const fn millis(n: u32) -> Self {
        Self(Duration::from_millis(n as u64))
    }

    /// The standard library's type for it.
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<Quantity> for Period {
    type Error = BadValue;

    fn try_from(Quantity(text): Quantity) -> Result<Self, BadValue> {
        let rule = "a length of time is a whole number with a unit (ms, s, m, h, d), at most 365d, such as 30s";
        let millis = split_unit(&text).and_then(|(number, unit)| {
            let (_, size) = PERIOD_UNITS.iter().find(|(name, _)| *name == unit)?;
            number.checked_mul(*size)
        });
        match millis {
            Some(millis) if millis <= 365 * 86_400_000 => Ok(Self(Duration::from_millis(millis))),
            _ => Err(BadValue(rule.to_owned())),
        }
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        write_units(f, millis, &PERIOD_UNITS)
    }
}

/// A number of bytes: a whole number and one of B, kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB
/// (powers of 1024).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "Quantity", into = "String")]
pub struct ByteSize(#[schemars(with = "String")] u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

impl ByteSize {
    /// So many mebibytes.
    pub const fn mib(n: u32) -> Self {
        Self((n as u64) << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl TryFrom<Quantity> for ByteSize {
    type Error = BadValue;

    fn try_from(Quantity(text): Quantity) -> Result<Self, BadValue> {
        let rule = "a size is a whole number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), such as 8GiB";
        split_unit(&text)
            .and_then(|(number, unit)| {
                let (_, size) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
                number.checked_mul(*size).map(Self)
            })
            .ok_or_else(|| BadValue(rule.to_owned()))
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_units(f, self.0, &SIZE_UNITS)
    }
}

/// A time of day in UTC, written `02:30`; minutes since midnight.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(#[schemars(with = "String")] u16);

impl TimeOfDay {
    /// Minutes since midnight UTC, 0 to 1439.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        let two = |part: &str| if part.len() == 2 { part.parse::<u16>().ok() } else { None };
        let parts = text.split_once(':').and_then(|(h, m)| Some((two(h)?, two(m)?)));
        match parts {
            Some((hours @ 0..=23, minutes @ 0..=59)) => Ok(Self(hours * 60 + minutes)),
            _ => Err(BadValue("a time of day is \"HH:MM\" in UTC, such as \"02:30\"".to_owned())),
        }
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}
