//! What the kernel shows at one moment.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::desired::{BondMode, LacpRate, XmitHashPolicy};
use super::{ADDRESS_PROTOCOL, LINK_GROUP, ROUTE_PROTOCOL};
use crate::names::{IfName, MacAddr, VlanId};

/// The host's links, addresses, routes of the main table, and the kernel parameters that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Every link but the loopback.
    #[serde(default)]
    pub links: Vec<ObservedLink>,
    /// Addresses of these links.
    #[serde(default)]
    pub addresses: Vec<ObservedAddress>,
    /// Unicast routes of the main table that leave by one of these links.
    #[serde(default)]
    pub routes: Vec<ObservedRoute>,
    /// Values by path below /proc/sys; a path that does not exist is missing.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Answers to ARP probes that are still fresh.
    #[serde(default)]
    pub probes: Vec<Probe>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedLink {
    /// The kernel's name.
    pub name: IfName,
    /// Other names that it answers to, such as those that udev adds.
    #[serde(default)]
    pub alternative_names: Vec<String>,
    /// The kernel's number for it, never used twice while the host runs.
    #[serde(default)]
    pub index: u32,
    /// What it is.
    pub kind: ObservedKind,
    /// The current MAC address.
    #[serde(default)]
    pub mac: Option<MacAddr>,
    /// The MAC address that the hardware came with. A bond's ports all show the bond's as their current one.
    #[serde(default)]
    pub permanent_mac: Option<MacAddr>,
    /// The PCI address of the device, or of the one that it hangs on (virtio, USB).
    #[serde(default)]
    pub pci: Option<String>,
    /// The driver's name.
    #[serde(default)]
    pub driver: Option<String>,
    /// The MTU in bytes.
    #[serde(default = "ethernet_mtu")]
    pub mtu: u32,
    /// The largest MTU that its driver takes, in bytes; `None` if it names none.
    #[serde(default)]
    pub max_mtu: Option<u32>,
    /// Administratively up.
    #[serde(default)]
    pub up: bool,
    /// The cable, or what stands for it, is connected. Only a link that is up has carrier.
    #[serde(default)]
    pub carrier: bool,
    /// The bond or bridge that it is a port of.
    #[serde(default)]
    pub master: Option<IfName>,
    /// The link group: [`LINK_GROUP`] marks the agent's own.
    #[serde(default)]
    pub group: u32,
}

fn ethernet_mtu() -> u32 {
    1500
}

impl ObservedLink {
    /// Whether it carries the agent's mark.
    pub fn is_owned(&self) -> bool {
        self.group == LINK_GROUP
    }
}

/// What an observed link is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObservedKind {
    /// A network card, or one end of a veth pair, which is what stands for one in a container.
    Nic,
    /// A bond.
    Bond(ObservedBond),
    /// A VLAN.
    Vlan {
        /// The link below, `None` if it is in another network namespace.
        parent: Option<IfName>,
        /// The tag.
        id: VlanId,
    },
    /// A bridge.
    Bridge,
    /// Something that the agent neither makes nor uses, by the kernel's name for it: tun, vxlan, dummy, …
    Other(String),
}

/// A bond's parameters. `None` is a value that the agent would never set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedBond {
    /// How the ports share the traffic.
    pub mode: Option<BondMode>,
    /// How often the ports' carriers are looked at, in milliseconds.
    #[serde(default)]
    pub miimon: u32,
    /// How often the LACP partner sends its state.
    #[serde(default)]
    pub lacp_rate: Option<LacpRate>,
    /// What decides over which port a frame goes.
    #[serde(default)]
    pub xmit_hash_policy: Option<XmitHashPolicy>,
    /// The preferred port. The kernel names it only while it is a port.
    #[serde(default)]
    pub primary: Option<IfName>,
}

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedAddress {
    /// The link's kernel name.
    pub link: IfName,
    /// The address with its prefix length.
    pub address: IpNet,
    /// Who added it (`IFA_PROTO`): [`ADDRESS_PROTOCOL`] marks the agent's own.
    #[serde(default)]
    pub protocol: u8,
    /// The kernel is still finding out whether somebody else has it (IPv6), and does not use it yet.
    #[serde(default)]
    pub tentative: bool,
    /// Somebody else has it (IPv6): the kernel will never use it.
    #[serde(default)]
    pub dad_failed: bool,
    /// Seconds since it was added or changed.
    #[serde(default)]
    pub age: u64,
}

impl ObservedAddress {
    /// Whether it carries the agent's mark.
    pub fn is_owned(&self) -> bool {
        self.protocol == ADDRESS_PROTOCOL
    }
}

/// A unicast route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedRoute {
    /// Where it leads.
    pub destination: IpNet,
    /// The next hop; `None` for a subnet on the link itself.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The link's kernel name.
    pub link: IfName,
    /// Which of several routes to one destination is taken: the lowest.
    #[serde(default)]
    pub metric: u32,
    /// The largest packet in bytes, if the route itself says one.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Who added it: [`ROUTE_PROTOCOL`] marks the agent's own.
    #[serde(default)]
    pub protocol: u8,
}

impl ObservedRoute {
    /// Whether it carries the agent's mark.
    pub fn is_owned(&self) -> bool {
        self.protocol == ROUTE_PROTOCOL
    }
}

/// The outcome of asking whether anybody on a link has an IPv4 address (RFC 5227).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The link's kernel name.
    pub link: IfName,
    /// The address that was asked for.
    pub address: Ipv4Addr,
    /// Who has it; `None` if nobody answered.
    #[serde(default)]
    pub holder: Option<MacAddr>,
}
