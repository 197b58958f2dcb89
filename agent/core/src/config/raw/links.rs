//! Links as a person writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::List;
use crate::config::given::Given;
use crate::config::{BalanceHash, LacpRate};
use crate::names::{DriverName, IfName, MacAddr, Mtu, PciPath, VlanId};

/// A link: exactly one of nic, bond, vlan and bridge.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Link")]
pub(in crate::config) struct RawLink {
    /// A network card's port.
    pub(in crate::config) nic: Given<RawNic>,
    /// Several NICs that act as one.
    pub(in crate::config) bond: Given<RawBond>,
    /// A VLAN of another link.
    pub(in crate::config) vlan: Given<RawVlan>,
    /// A bridge.
    pub(in crate::config) bridge: Given<RawBridge>,
    /// The MTU in bytes. Default: a port's is that of its bond or bridge, a VLAN's that of its parent,
    /// else 1500.
    pub(in crate::config) mtu: Given<Mtu>,
    /// Only below a node: true if this node does not have the cluster's link of this name.
    pub(in crate::config) absent: Given<bool>,
}

/// How the NIC is found: exactly one of these. It must fit one physical NIC of the node.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Nic")]
pub(in crate::config) struct RawNic {
    /// The kernel's name for it: enp3s0f0.
    pub(in crate::config) name: Given<IfName>,
    /// Its permanent MAC address.
    pub(in crate::config) mac: Given<MacAddr>,
    /// Its PCI address: 0000:03:00.0.
    pub(in crate::config) path: Given<PciPath>,
    /// Its driver, where only one NIC of the node has it: `virtio_net`.
    pub(in crate::config) driver: Given<DriverName>,
}

/// Several NICs that act as one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Bond", extend("required" = ["mode", "ports"]))]
pub(in crate::config) struct RawBond {
    /// How the ports work together.
    pub(in crate::config) mode: Given<RawBondMode>,
    /// The NIC links that it is made of.
    pub(in crate::config) ports: List<IfName>,
    /// 802.3ad only: how often the switch sends LACP packets. Default: slow.
    pub(in crate::config) lacp_rate: Given<LacpRate>,
    /// 802.3ad and balance-xor: what chooses the port of a packet. Default: layer2.
    pub(in crate::config) hash_policy: Given<BalanceHash>,
    /// active-backup only: the port preferred while it has carrier.
    pub(in crate::config) primary: Given<IfName>,
}

/// How the ports of a bond work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "BondMode")]
pub(in crate::config) enum RawBondMode {
    /// LACP with the switch: all ports at once.
    #[serde(rename = "802.3ad")]
    Lacp,
    /// One port at a time; needs nothing of the switch.
    #[serde(rename = "active-backup")]
    ActiveBackup,
    /// All ports at once without a protocol; the switch needs a static aggregation.
    #[serde(rename = "balance-xor")]
    BalanceXor,
}

/// A VLAN of another link.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Vlan", extend("required" = ["parent", "id"]))]
pub(in crate::config) struct RawVlan {
    /// The link that carries the tagged packets.
    pub(in crate::config) parent: Given<IfName>,
    /// The tag, 1 to 4094.
    pub(in crate::config) id: Given<VlanId>,
}

/// A bridge.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Bridge")]
pub(in crate::config) struct RawBridge {
    /// The links plugged into it.
    pub(in crate::config) ports: List<IfName>,
}
