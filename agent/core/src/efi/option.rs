//! A boot entry (`EFI_LOAD_OPTION`, UEFI specification 2.10, 3.1.3).

use serde::{Deserialize, Serialize};

use super::bytes::{self, Reader};
use super::path::{self, Node};

/// The attribute without which the firmware passes the entry over (`LOAD_OPTION_ACTIVE`).
const ACTIVE: u32 = 1;

/// A boot entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadOption {
    /// Whether the firmware starts it in its turn.
    #[serde(default = "active")]
    pub active: bool,
    /// What the firmware's menu shows.
    pub description: String,
    /// The way to what is started.
    pub path: Vec<Node>,
}

fn active() -> bool {
    true
}

impl LoadOption {
    /// Reads a variable `Boot0000` without the attributes of the variable. What an entry gives to the program that it starts
    /// is left out, and so are further paths. `None`: it has another form.
    pub fn read(value: &[u8]) -> Option<Self> {
        let mut reader = Reader(value);
        let (attributes, length) = (reader.u32()?, reader.u16()?);
        let description = reader.text()?;
        let path = path::read(reader.take(usize::from(length))?)?;
        Some(Self { active: attributes & ACTIVE != 0, description, path })
    }

    /// The variable's value.
    pub fn write(&self) -> Vec<u8> {
        let path = path::write(&self.path);
        let mut value = u32::from(self.active).to_le_bytes().to_vec();
        value.extend(u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
        value.extend(bytes::text(&self.description));
        value.extend(path);
        value
    }
}
