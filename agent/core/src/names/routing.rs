//! Numbers of the routing world.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BadValue;

/// A BGP autonomous system number (RFC 6793). Reserved ones cannot be used: 0 (RFC 7607), 23456
/// (RFC 6793, `AS_TRANS`), 65535 and 4294967295 (RFC 7300).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct Asn(u32);

impl TryFrom<u32> for Asn {
    type Error = BadValue;

    fn try_from(asn: u32) -> Result<Self, BadValue> {
        match asn {
            0 | 23456 | 65535 | u32::MAX => Err(BadValue(format!(
                "AS number {asn} is reserved; private ones are 64512 to 65534 and 4200000000 to 4294967294"
            ))),
            asn => Ok(Self(asn)),
        }
    }
}

impl From<Asn> for u32 {
    fn from(asn: Asn) -> Self {
        asn.0
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
