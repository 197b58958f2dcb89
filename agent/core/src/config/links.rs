//! Links as they are on one node: NICs, bonds, VLANs, bridges.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MtuFrom;
use crate::names::{DriverName, IfName, MacAddr, Mtu, PciPath, VlanId};

/// A link of one node. Its name is the key in [`super::Node::links`]: for bonds, VLANs and bridges the
/// kernel's name; for a NIC only a name within the cluster file, the kernel's stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// Its MTU in bytes, never above that of what it sits on.
    pub mtu: Mtu,
    /// Where the MTU comes from.
    pub mtu_from: MtuFrom,
}

impl Link {
    /// The links that it is made of: the ports of a bond or a bridge, the parent of a VLAN.
    pub fn lower(&self) -> &[IfName] {
        match &self.kind {
            LinkKind::Nic(_) => &[],
            LinkKind::Bond(bond) => &bond.ports,
            LinkKind::Vlan { parent, .. } => std::slice::from_ref(parent),
            LinkKind::Bridge { ports } => ports,
        }
    }
}

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// A network card's port.
    Nic(NicChoice),
    /// Several links that act as one.
    Bond(Bond),
    /// A tagged part of another link.
    Vlan {
        /// The link that carries the tagged frames.
        parent: IfName,
        /// The tag.
        id: VlanId,
    },
    /// A switch in the kernel.
    Bridge {
        /// The links plugged into it; may be empty.
        ports: Vec<IfName>,
    },
}

/// How a NIC is found on the node. It must fit exactly one physical NIC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NicChoice {
    /// By the kernel's name or one of its alternative names.
    Name(IfName),
    /// By the permanent MAC address.
    Mac(MacAddr),
    /// By the PCI address.
    Path(PciPath),
    /// By the driver: right where one NIC of a kind is built in.
    Driver(DriverName),
}

impl fmt::Display for NicChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "name {name}"),
            Self::Mac(mac) => write!(f, "MAC {mac}"),
            Self::Path(path) => write!(f, "PCI path {path}"),
            Self::Driver(driver) => write!(f, "driver {driver}"),
        }
    }
}

/// A bond: several ports, one link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bond {
    /// How frames are spread over the ports.
    pub mode: BondMode,
    /// At least one, each in no other bond or bridge.
    pub ports: Vec<IfName>,
}

/// The mode of a bond with what belongs to it (kernel, Documentation/networking/bonding.rst).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BondMode {
    /// 802.3ad: LACP with the switch.
    Lacp {
        /// How often the partner is asked to send.
        rate: LacpRate,
        /// Which header fields choose the port.
        hash: BalanceHash,
    },
    /// One port works, the others wait.
    ActiveBackup {
        /// The port preferred while it has carrier, one of the ports.
        primary: Option<IfName>,
    },
    /// Static aggregation, no protocol.
    BalanceXor {
        /// Which header fields choose the port.
        hash: BalanceHash,
    },
}

impl BondMode {
    /// The mode as the kernel and the cluster file write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lacp { .. } => "802.3ad",
            Self::ActiveBackup { .. } => "active-backup",
            Self::BalanceXor { .. } => "balance-xor",
        }
    }
}

/// How often LACP partners send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LacpRate {
    /// Every 30 seconds.
    Slow,
    /// Every second: a dead path is noticed in three seconds.
    Fast,
}

/// Which header fields choose the port of a bond (`xmit_hash_policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BalanceHash {
    /// MAC addresses.
    #[serde(rename = "layer2")]
    Layer2,
    /// MAC and IP addresses.
    #[serde(rename = "layer2+3")]
    Layer2And3,
    /// IP addresses and ports: the best spread, fragments may arrive out of order.
    #[serde(rename = "layer3+4")]
    Layer3And4,
}
