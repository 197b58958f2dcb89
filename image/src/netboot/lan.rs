//! The network that is served.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use ipnet::{IpNet, Ipv4Net};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// An interface with its first IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lan {
    /// The interface.
    pub(crate) interface: String,
    /// Its address, with the subnet's prefix length.
    pub(crate) address: Ipv4Net,
}

impl Lan {
    /// Looks an interface up.
    pub(crate) fn of(interface: &str) -> Result<Self> {
        let all = getifaddrs().context("cannot list the network interfaces")?;
        let own = all.filter(|found| found.interface_name == interface);
        let v4 = |address: Option<SockaddrStorage>| -> Option<Ipv4Addr> {
            Some(address?.as_sockaddr_in()?.ip())
        };
        let address = own.filter_map(|found| {
            let (address, mask) = (v4(found.address)?, v4(found.netmask)?);
            match IpNet::with_netmask(address.into(), IpAddr::from(mask)).ok()? {
                IpNet::V4(net) => Some(net),
                IpNet::V6(_) => None,
            }
        });
        let address = { address }.next().with_context(|| {
            format!("{interface} has no IPv4 address: firmware is served over IPv4 alone")
        })?;
        Ok(Self { interface: interface.to_owned(), address })
    }
}
