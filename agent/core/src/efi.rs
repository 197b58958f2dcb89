//! What a UEFI firmware starts, as its variables say it (UEFI specification 2.10, 3.1 and 10.3): read, written, and which
//! of it there should be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod bytes; // integers and text in the firmware's little-endian form
pub mod entries; // the node's own boot entries, and the order of all
mod option; // EFI_LOAD_OPTION
mod path; // device paths
pub mod signatures; // whose programs the firmware starts
#[cfg(test)]
mod tests;

pub use option::LoadOption;
pub use path::{Node, Partition};

/// The vendor of the variables that the specification itself defines: `BootOrder`, `Boot0001`.
pub const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// What the firmware has started in this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootedFrom {
    /// The network: PXE or HTTP.
    Network,
    /// A partition of a disk with a GPT.
    Partition(Guid),
    /// An El Torito image on a disc.
    Optical,
    /// A whole device, on which the firmware looked for a loader by itself: a stick, a disc, a disk.
    Device,
}

impl BootedFrom {
    /// By the boot entry that `BootCurrent` names.
    pub fn of(option: &LoadOption) -> Self {
        if option.path.iter().any(Node::is_network) {
            return Self::Network;
        }
        let of_node = |node: &Node| match node {
            Node::Partition(partition) => Some(Self::Partition(partition.uuid)),
            Node::Optical => Some(Self::Optical),
            Node::File(_) | Node::Other { .. } => None,
        };
        option.path.iter().find_map(of_node).unwrap_or(Self::Device)
    }
}

/// A GUID in the order of its text; the firmware has the first three fields with their last byte first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Guid([u8; 16]);

/// A text that is no GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no GUID, such as c12a7328-f81f-11d2-ba4b-00a0c93ec93b")]
pub struct NoGuid(String);

impl Guid {
    /// As the firmware has it.
    pub(crate) fn from_firmware(mut bytes: [u8; 16]) -> Self {
        swap(&mut bytes);
        Self(bytes)
    }

    /// As the firmware has it.
    pub(crate) fn to_firmware(self) -> [u8; 16] {
        let mut bytes = self.0;
        swap(&mut bytes);
        bytes
    }
}

/// Between the two orders of the first three fields.
fn swap(bytes: &mut [u8; 16]) {
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
}

impl FromStr for Guid {
    type Err = NoGuid;

    fn from_str(text: &str) -> Result<Self, NoGuid> {
        let wrong = || NoGuid(text.to_owned());
        let lower = text.to_lowercase();
        if !crate::names::is_uuid(&lower) {
            return Err(wrong());
        }
        let digits = lower.replace('-', "");
        let number = u128::from_str_radix(&digits, 16).map_err(|_| wrong())?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl TryFrom<String> for Guid {
    type Error = NoGuid;

    fn try_from(text: String) -> Result<Self, NoGuid> {
        text.parse()
    }
}

impl From<Guid> for String {
    fn from(guid: Guid) -> Self {
        guid.to_string()
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", u128::from_be_bytes(self.0));
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        f.write_str(&parts.join("-"))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
