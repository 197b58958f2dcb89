//! Small values that cannot hold a wrong one.

mod digests; // Sha256
mod hardware; // PciPath, DriverName, DiskId, Wwn, HardwareUuid, HardwareSerial, EndorsementKey
mod hosts; // NodeName, ClusterName, DomainName, Host, Endpoint, HttpUrl
mod routing; // Asn
mod secrets; // SecretName, SshKey
mod units; // Count, Period, ByteSize, TimeOfDay
mod words; // Label keys and values, Channel

pub use digests::Sha256;
pub(crate) use digests::is_sha256;
pub(crate) use hardware::is_uuid;
pub use hardware::{
    DiskId, DriverName, EndorsementKey, HardwareSerial, HardwareUuid, PciPath, Wwn,
};
pub use hosts::{ClusterName, DomainName, Endpoint, Host, HttpUrl, NodeName};
pub use routing::Asn;
pub use secrets::{SecretName, SshKey};
pub(crate) use units::QUANTITY;
pub use units::{ByteSize, Count, Period, TimeOfDay};
pub use words::{Channel, LabelKey, LabelValue};

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a text or a number is not such a value. The message says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(pub String);

/// A text with a rule: serde goes through `TryFrom<String>`, so that a wrong one cannot exist.
macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The value as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::names::BadValue;

            fn try_from(text: String) -> Result<Self, $crate::names::BadValue> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(rule) => Err($crate::names::BadValue(rule.to_owned())),
                }
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
use text_value;

/// `Ok` if it holds, else the rule.
fn require(holds: bool, rule: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(rule) }
}

/// The name of a network interface: 1 to 15 bytes, no `/`, no blanks, not `.` or `..`
/// (`dev_valid_name` in the kernel's net/core/dev.c; `IFNAMSIZ` in linux/if.h).
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl IfName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for IfName {
    type Error = BadValue;

    fn try_from(name: String) -> Result<Self, BadValue> {
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
            return Err(BadValue(
                "an interface name has 1 to 15 bytes and no '/', ':' or blanks".into(),
            ));
        }
        Ok(Self(name))
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A VLAN ID: 1 to 4094; 0 and 4095 are reserved (IEEE 802.1Q, 9.6).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

impl TryFrom<u16> for VlanId {
    type Error = BadValue;

    fn try_from(id: u16) -> Result<Self, BadValue> {
        if (1..=4094).contains(&id) {
            Ok(Self(id))
        } else {
            Err(BadValue("a VLAN ID is 1 to 4094".into()))
        }
    }
}

impl From<VlanId> for u16 {
    fn from(id: VlanId) -> Self {
        id.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A link's MTU in bytes: 1280 to 65535. IPv6 needs 1280 on every link (RFC 8200, 5); `ETH_MAX_MTU` is 65535.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mtu(u32);

impl Mtu {
    /// Ethernet's own: 1500 bytes (IEEE 802.3, 3.2.7).
    pub const ETHERNET: Self = Self(1500);
}

impl TryFrom<u32> for Mtu {
    type Error = BadValue;

    fn try_from(mtu: u32) -> Result<Self, BadValue> {
        if (1280..=65535).contains(&mtu) {
            Ok(Self(mtu))
        } else {
            Err(BadValue("an MTU is 1280 to 65535 bytes".into()))
        }
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> Self {
        mtu.0
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ethernet address, written `52:54:00:12:34:56`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl TryFrom<String> for MacAddr {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        let bad = || BadValue("a MAC address is six hex bytes such as 52:54:00:12:34:56".into());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(bytes)) }
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&bytes.join(":"))
    }
}

/// A node's ID: 1 and up. Addresses, names and server numbers follow from it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u16", into = "u16")]
pub struct NodeId(u16);

impl TryFrom<u16> for NodeId {
    type Error = BadValue;

    fn try_from(id: u16) -> Result<Self, BadValue> {
        if id == 0 { Err(BadValue("a node ID is 1 or more".into())) } else { Ok(Self(id)) }
    }
}

impl From<NodeId> for u16 {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
