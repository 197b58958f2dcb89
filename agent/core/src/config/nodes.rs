//! Nodes with the cluster's defaults merged in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Link, NetworkName, NodeNetwork};
use crate::names::{
    ByteSize, Count, DiskId, EndorsementKey, HardwareSerial, HardwareUuid, Host, IfName, LabelKey,
    LabelValue, MacAddr, NodeId, NodeName, SecretName, Wwn,
};

/// One node, everything resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The node's ID.
    pub id: NodeId,
    /// The node's short host name.
    pub name: NodeName,
    /// What it does in the cluster.
    pub role: Role,
    /// How an unknown machine is recognised as this node.
    pub matches: Match,
    /// Its management controller, through which it is fenced.
    pub bmc: Option<Bmc>,
    /// The disk that the OS is installed on. `None`: the node runs diskless.
    pub system_disk: Option<Disk>,
    /// The disk that a diskless node keeps its /var on. `None`: /var is memory, or on the system disk.
    pub var_disk: Option<Disk>,
    /// Disks that may be taken as one of these though something is on them, by serial number or name below
    /// /dev/disk/by-id.
    pub wipe: Vec<String>,
    /// The disks that carry Ceph OSDs.
    pub osds: Vec<Osd>,
    /// What is kept from guests.
    pub reserve: Reserve,
    /// For failure domains and placement.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Every link of the node by name.
    pub links: BTreeMap<IfName, Link>,
    /// The distinct core networks, in the order of [`NetworkName`].
    pub networks: Vec<NodeNetwork>,
}

impl Node {
    /// How the node sits on the network that carries `name`.
    pub fn network(&self, name: NetworkName) -> Option<&NodeNetwork> {
        self.networks.iter().find(|net| net.name == name || net.shared_by.contains(&name))
    }

    /// The BGP router ID and why it is that: the node's IPv4 address on cluster, upstream or storage; on a
    /// node without any, the node ID as a number (RFC 6286 asks only that it is unique and not 0).
    pub fn router_id(&self) -> (Ipv4Addr, String) {
        let order = [NetworkName::Cluster, NetworkName::Upstream, NetworkName::Storage];
        let v4 = |name: NetworkName| {
            let addresses = &self.network(name)?.addresses;
            addresses.iter().find_map(|address| match address.address {
                IpNet::V4(v4) => Some((v4.addr(), format!("the node's IPv4 address on {name}"))),
                IpNet::V6(_) => None,
            })
        };
        order.into_iter().find_map(v4).unwrap_or_else(|| {
            (
                u32::from(u16::from(self.id)).into(),
                "the node ID, for want of an IPv4 address".to_owned(),
            )
        })
    }

    /// The bond or bridge that has this link as a port.
    pub fn master_of(&self, port: &IfName) -> Option<&IfName> {
        let holds = |link: &Link| match &link.kind {
            super::LinkKind::Bond(bond) => bond.ports.contains(port),
            super::LinkKind::Bridge { ports } => ports.contains(port),
            super::LinkKind::Nic(_) | super::LinkKind::Vlan { .. } => false,
        };
        self.links.iter().find(|(_, link)| holds(link)).map(|(name, _)| name)
    }
}

/// What a node does in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Carries the quorums, and guests as well.
    Coordinator,
    /// Carries guests.
    Hypervisor,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coordinator => "coordinator",
            Self::Hypervisor => "hypervisor",
        })
    }
}

/// How a machine is recognised. Any one of these suffices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Match {
    /// MAC addresses of the machine's NICs.
    pub macs: Vec<MacAddr>,
    /// The firmware's serial number.
    pub serial: Option<HardwareSerial>,
    /// The firmware's UUID.
    pub uuid: Option<HardwareUuid>,
    /// The endorsement key of its TPM. On a medium the node's bundle is sealed to it.
    pub tpm: Option<EndorsementKey>,
}

/// A management controller (IPMI).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bmc {
    /// Where it listens.
    pub address: Host,
    /// The user to log in as.
    pub user: String,
    /// The entry of the secrets file that holds the password.
    pub secret: SecretName,
}

/// A rule that chooses disks: every criterion given must hold, and at least one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Disk {
    /// A name below /dev/disk/by-id.
    pub id: Option<DiskId>,
    /// A name below /dev/disk/by-path.
    pub path: Option<DiskId>,
    /// The disk's serial number.
    pub serial: Option<String>,
    /// The disk's World Wide Name.
    pub wwn: Option<Wwn>,
    /// The disk's model, as the kernel shows it.
    pub model: Option<String>,
    /// NVMe, SSD or rotating.
    pub kind: Option<DiskKind>,
    /// How it is attached.
    pub transport: Option<Transport>,
    /// At least this large.
    pub min_size: Option<ByteSize>,
    /// At most this large.
    pub max_size: Option<ByteSize>,
}

/// What a disk is made of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum DiskKind {
    /// NVMe.
    Nvme,
    /// Flash behind SATA or SAS.
    Ssd,
    /// Rotating.
    Hdd,
}

impl fmt::Display for DiskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nvme => "nvme",
            Self::Ssd => "ssd",
            Self::Hdd => "hdd",
        })
    }
}

/// How a disk is attached.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// NVMe.
    Nvme,
    /// SATA or older ATA.
    Sata,
    /// SAS.
    Sas,
    /// Another SCSI: a RAID controller's volumes, Fibre Channel, iSCSI.
    Scsi,
    /// USB.
    Usb,
    /// A virtual machine's, by virtio.
    Virtio,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nvme => "nvme",
            Self::Sata => "sata",
            Self::Sas => "sas",
            Self::Scsi => "scsi",
            Self::Usb => "usb",
            Self::Virtio => "virtio",
        })
    }
}

/// Disks that become OSDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Osd {
    /// Which disks.
    pub disk: Disk,
    /// So many disks must fit the rule.
    pub count: Count,
    /// OSDs per disk.
    pub per_disk: Count,
    /// The CRUSH device class; `None`: by the kind of the disk found.
    pub class: Option<DiskKind>,
    /// Where the RocksDB metadata goes if not on the disk itself.
    pub db: Option<OsdDb>,
    /// Whether the OSD is encrypted (dm-crypt).
    pub encrypted: bool,
    /// Disks that need not be blank, by serial number or name below /dev/disk/by-id. An OSD of this cluster stays,
    /// also if its label cannot be read.
    pub overwrite: Vec<String>,
}

/// A faster disk for OSD metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OsdDb {
    /// Which disk.
    pub disk: Disk,
    /// How much of it each OSD gets.
    pub size: ByteSize,
}

/// What is kept from guests on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// Logical CPUs for storage.
    pub cpus: u16,
    /// Memory for storage.
    pub memory: ByteSize,
}

impl Reserve {
    /// Where the cluster file says nothing: one OSD with its default memory target just fits.
    pub const DEFAULT: Self = Self { cpus: 2, memory: ByteSize::mib(4096) };
}
