//! Addresses and subnets as a person writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::names::BadValue;

macro_rules! parsed_text {
    ($(#[$doc:meta])* $name:ident($inner:ty), $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
        #[serde(try_from = "String")]
        pub(in crate::config) struct $name(#[schemars(with = "String")] pub(in crate::config) $inner);

        impl TryFrom<String> for $name {
            type Error = BadValue;

            fn try_from(text: String) -> Result<Self, BadValue> {
                text.parse().map(Self).map_err(|_| BadValue($rule.to_owned()))
            }
        }
    };
}

parsed_text! {
    /// An IPv4 or IPv6 address, without a prefix length.
    Address(IpAddr), "an address without a prefix length is expected here, such as 10.0.0.53 or fd00::53"
}

parsed_text! {
    /// An IPv4 address, without a prefix length.
    AddressV4(Ipv4Addr), "an IPv4 address without a prefix length is expected here, such as 10.0.0.3"
}

parsed_text! {
    /// An IPv6 address, without a prefix length.
    AddressV6(Ipv6Addr), "an IPv6 address without a prefix length is expected here, such as fd00:1::3"
}

parsed_text! {
    /// An IPv4 subnet: network address and prefix length.
    SubnetV4(Ipv4Net), "an IPv4 subnet is expected here, network and prefix length, such as 10.0.0.0/24"
}

parsed_text! {
    /// An IPv6 subnet: network address and prefix length.
    SubnetV6(Ipv6Net), "an IPv6 subnet is expected here, network and prefix length, such as fd00:1::/64"
}

impl From<AddressV4> for IpAddr {
    fn from(address: AddressV4) -> Self {
        Self::V4(address.0)
    }
}

impl From<AddressV6> for IpAddr {
    fn from(address: AddressV6) -> Self {
        Self::V6(address.0)
    }
}

impl From<SubnetV4> for IpNet {
    fn from(subnet: SubnetV4) -> Self {
        Self::V4(subnet.0)
    }
}

impl From<SubnetV6> for IpNet {
    fn from(subnet: SubnetV6) -> Self {
        Self::V6(subnet.0)
    }
}
