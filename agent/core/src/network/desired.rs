//! What should be, as it follows from the cluster file and the node ID.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::names::{IfName, MacAddr, Mtu, VlanId};

/// The node's whole network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Links by logical name. A NIC's logical name stands for the kernel's; the others' are the kernel's.
    #[serde(default)]
    pub links: BTreeMap<IfName, Link>,
    /// Routes of the main table, the default gateways among them.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Kernel parameters of the whole host: path below /proc/sys, and value.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Kernel parameters of every link that is no port: `ipv4/rp_filter` stands for
    /// `net/ipv4/conf/LINK/rp_filter`.
    #[serde(default)]
    pub link_sysctls: BTreeMap<String, String>,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// What it is.
    pub kind: Kind,
    /// Its MTU in bytes. A bond's ports have the bond's, whatever stands here.
    #[serde(default = "ethernet_mtu")]
    pub mtu: Mtu,
    /// The bond or bridge that it is a port of, by logical name.
    #[serde(default)]
    pub master: Option<IfName>,
    /// Its addresses with prefix lengths.
    #[serde(default)]
    pub addresses: BTreeSet<IpNet>,
}

#[expect(clippy::expect_used, reason = "1500 lies within 1280 to 65535")]
fn ethernet_mtu() -> Mtu {
    Mtu::try_from(1500).expect("1500 is an MTU")
}

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A network card of the host.
    Nic(NicSelector),
    /// Several ports as one. Its ports name it as their master.
    Bond(Bond),
    /// A tagged network (802.1Q) on another link.
    Vlan {
        /// The link that carries the tagged frames, by logical name.
        parent: IfName,
        /// The tag.
        id: VlanId,
    },
    /// A switch in software, without spanning tree. Its ports name it as their master.
    Bridge,
}

/// How a NIC is chosen: everything that is given must hold, and something must be given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicSelector {
    /// The kernel's name, or one of the alternative ones.
    #[serde(default)]
    pub name: Option<IfName>,
    /// The permanent MAC address; the current one for NICs without a permanent one.
    #[serde(default)]
    pub mac: Option<MacAddr>,
    /// The PCI address, such as `0000:03:00.1`.
    #[serde(default)]
    pub pci: Option<String>,
    /// The driver, such as `ixgbe`.
    #[serde(default)]
    pub driver: Option<String>,
}

impl fmt::Display for NicSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, mac, pci, driver } = self;
        let parts = [
            name.as_ref().map(|name| format!("name {name}")),
            mac.map(|mac| format!("MAC {mac}")),
            pci.as_ref().map(|pci| format!("PCI path {pci}")),
            driver.as_ref().map(|driver| format!("driver {driver}")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(" and "))
    }
}

/// A bond's parameters. Ports are looked at every `miimon` milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    /// How the ports share the traffic.
    pub mode: BondMode,
    /// How often the ports' carriers are looked at, in milliseconds; 0 would never notice a dead port.
    #[serde(default = "default_miimon")]
    pub miimon: u32,
    /// How often the partner sends its LACP state; only for 802.3ad.
    #[serde(default)]
    pub lacp_rate: LacpRate,
    /// What decides over which port a frame goes; only for 802.3ad and balance-xor.
    #[serde(default)]
    pub xmit_hash_policy: XmitHashPolicy,
    /// The preferred port, by logical name; only for active-backup.
    #[serde(default)]
    pub primary: Option<IfName>,
}

impl Bond {
    /// A bond of this mode with everything else as the kernel has it, but ports that are looked at.
    pub fn new(mode: BondMode) -> Self {
        Self {
            mode,
            miimon: default_miimon(),
            lacp_rate: LacpRate::default(),
            xmit_hash_policy: XmitHashPolicy::default(),
            primary: None,
        }
    }
}

fn default_miimon() -> u32 {
    100
}

/// How a bond's ports share the traffic (Documentation/networking/bonding.rst of the kernel).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BondMode {
    /// Link aggregation by LACP with the switch.
    #[serde(rename = "802.3ad")]
    Lacp,
    /// One port works, the others wait.
    #[serde(rename = "active-backup")]
    ActiveBackup,
    /// A static aggregate: a hash of the frame chooses the port.
    #[serde(rename = "balance-xor")]
    BalanceXor,
}

impl fmt::Display for BondMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lacp => "802.3ad",
            Self::ActiveBackup => "active-backup",
            Self::BalanceXor => "balance-xor",
        })
    }
}

/// How often the LACP partner sends its state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LacpRate {
    /// Every 30 s, the kernel's default.
    #[default]
    Slow,
    /// Every second.
    Fast,
}

impl fmt::Display for LacpRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slow => "slow",
            Self::Fast => "fast",
        })
    }
}

/// What decides over which port a frame goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum XmitHashPolicy {
    /// MAC addresses, the kernel's default.
    #[default]
    #[serde(rename = "layer2")]
    Layer2,
    /// MAC and IP addresses.
    #[serde(rename = "layer2+3")]
    Layer23,
    /// IP addresses and ports.
    #[serde(rename = "layer3+4")]
    Layer34,
    /// Like layer2+3, of the inner packet of a tunnel.
    #[serde(rename = "encap2+3")]
    Encap23,
    /// Like layer3+4, of the inner packet of a tunnel.
    #[serde(rename = "encap3+4")]
    Encap34,
    /// VLAN ID and source MAC address.
    #[serde(rename = "vlan+srcmac")]
    VlanSrcMac,
}

impl fmt::Display for XmitHashPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Layer2 => "layer2",
            Self::Layer23 => "layer2+3",
            Self::Layer34 => "layer3+4",
            Self::Encap23 => "encap2+3",
            Self::Encap34 => "encap3+4",
            Self::VlanSrcMac => "vlan+srcmac",
        })
    }
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Where it leads; `0.0.0.0/0` and `::/0` are the default routes.
    pub destination: IpNet,
    /// The next hop, a neighbour on the link; `None` for a subnet on the link itself.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The link, by logical name.
    pub link: IfName,
    /// Which of several routes to one destination is taken: the lowest. `None` is the kernel's default.
    #[serde(default)]
    pub metric: Option<u32>,
    /// The largest packet in bytes, if it is less than the link's MTU.
    #[serde(default)]
    pub mtu: Option<Mtu>,
}
