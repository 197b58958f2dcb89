//! Nodes as a person writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{AddressV4, AddressV6, List, RawLink};
use crate::config::given::{Given, Table};
use crate::config::{DiskKind, NetworkName, Transport};
use crate::names::{
    ByteSize, Count, DiskId, EndorsementKey, HardwareSerial, HardwareUuid, Host, IfName, LabelKey,
    LabelValue, MacAddr, Mtu, NodeId, NodeName, SecretName, Wwn,
};

/// One node.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Node", extend("required" = ["id", "name"]))]
pub(in crate::config) struct RawNode {
    /// The node's ID: addresses and server numbers follow from it. Never reuse one for another machine.
    pub(in crate::config) id: Given<NodeId>,
    /// The node's short host name.
    pub(in crate::config) name: Given<NodeName>,
    /// How the machine is recognised when it boots without a node bundle.
    #[serde(rename = "match")]
    pub(in crate::config) matches: Given<RawMatch>,
    /// The management controller through which the node is fenced.
    pub(in crate::config) bmc: Given<RawBmc>,
    /// The disk that the OS is installed on.
    pub(in crate::config) system_disk: Given<RawDisk>,
    /// The disk that a node without `system_disk` keeps its /var on, and nothing else. Default: none, /var is memory and
    /// lost when the node stops.
    pub(in crate::config) var_disk: Given<RawDisk>,
    /// Disks that may be taken as `system_disk` or `var_disk` though something is on them, by serial number or name
    /// below /dev/disk/by-id: what is on them is destroyed, once for each medium, or once for a `var_disk`. Default:
    /// none.
    pub(in crate::config) wipe: List<String>,
    /// The disks that carry Ceph OSDs.
    pub(in crate::config) osds: List<RawOsd>,
    /// What is kept from guests, for storage.
    pub(in crate::config) reserve: Given<RawReserve>,
    /// Labels for failure domains and placement.
    pub(in crate::config) labels: Given<Table<LabelKey, LabelValue>>,
    /// Where this node's links differ from the cluster's.
    pub(in crate::config) links: Given<Table<IfName, RawLink>>,
    /// Where this node's networks differ from the cluster's.
    pub(in crate::config) networks: Given<RawNodeNetworks>,
}

/// What every node has unless it says otherwise.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "NodeDefaults")]
pub(in crate::config) struct RawNodeDefaults {
    /// The management controller; a node's own keys override these one by one.
    pub(in crate::config) bmc: Given<RawBmc>,
    /// The disk that the OS is installed on; a node's own `system_disk` or `var_disk` replaces it whole.
    pub(in crate::config) system_disk: Given<RawDisk>,
    /// The disk that a node without `system_disk` keeps its /var on; a node's own `system_disk` or `var_disk` replaces it
    /// whole.
    pub(in crate::config) var_disk: Given<RawDisk>,
    /// The disks that carry Ceph OSDs; a node's own list replaces it whole.
    pub(in crate::config) osds: List<RawOsd>,
    /// What is kept from guests, for storage; a node's own keys override these one by one.
    pub(in crate::config) reserve: Given<RawReserve>,
    /// Labels; a node's own labels override these one by one.
    pub(in crate::config) labels: Given<Table<LabelKey, LabelValue>>,
}

/// How a machine is recognised: any one of these suffices.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Match")]
pub(in crate::config) struct RawMatch {
    /// MAC addresses of its NICs.
    pub(in crate::config) mac: List<MacAddr>,
    /// The firmware's serial number.
    pub(in crate::config) serial: Given<HardwareSerial>,
    /// The firmware's UUID.
    pub(in crate::config) uuid: Given<HardwareUuid>,
    /// The public endorsement key of its TPM (ECC P-256, base64), as its console shows it. On a medium the node's bundle
    /// is sealed to that TPM.
    pub(in crate::config) tpm: Given<EndorsementKey>,
}

/// A management controller (IPMI).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Bmc")]
pub(in crate::config) struct RawBmc {
    /// Its address or DNS name.
    pub(in crate::config) address: Given<Host>,
    /// The user to log in as.
    pub(in crate::config) user: Given<String>,
    /// The entry of the secrets file that holds the password.
    pub(in crate::config) secret: Given<SecretName>,
}

/// A rule that chooses disks: all that is given must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Disk")]
pub(in crate::config) struct RawDisk {
    /// A name below /dev/disk/by-id.
    pub(in crate::config) id: Given<DiskId>,
    /// A name below /dev/disk/by-path.
    pub(in crate::config) path: Given<DiskId>,
    /// The disk's serial number.
    pub(in crate::config) serial: Given<String>,
    /// The disk's World Wide Name, as `lsblk --output WWN` shows it.
    pub(in crate::config) wwn: Given<Wwn>,
    /// The disk's model, as the kernel shows it.
    pub(in crate::config) model: Given<String>,
    /// nvme, ssd or hdd.
    pub(in crate::config) kind: Given<DiskKind>,
    /// How it is attached: nvme, sata, sas, scsi, usb or virtio.
    pub(in crate::config) transport: Given<Transport>,
    /// At least this large: 900GB.
    pub(in crate::config) min_size: Given<ByteSize>,
    /// At most this large: 1100GB.
    pub(in crate::config) max_size: Given<ByteSize>,
}

/// Disks that become OSDs.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Osd", extend("required" = ["disk"]))]
pub(in crate::config) struct RawOsd {
    /// Which disks.
    pub(in crate::config) disk: Given<RawDisk>,
    /// So many disks must fit the rule. Default: 1.
    pub(in crate::config) count: Given<Count>,
    /// OSDs on each disk. Default: 1.
    pub(in crate::config) per_disk: Given<Count>,
    /// The CRUSH device class. Default: by the kind of the disk found.
    pub(in crate::config) class: Given<DiskKind>,
    /// A faster disk for metadata. Default: on the disk itself.
    pub(in crate::config) db: Given<RawOsdDb>,
    /// Whether the OSDs are encrypted. Default: false.
    pub(in crate::config) encrypted: Given<bool>,
    /// Disks of the rule that need not be blank, by serial number or name below /dev/disk/by-id: what is on them is
    /// destroyed. An OSD of this cluster never is, also not if its label cannot be read: it must be given up first
    /// (`ceph osd purge NUMBER`). Default: none.
    pub(in crate::config) overwrite: List<String>,
}

/// A faster disk for metadata.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "OsdDb", extend("required" = ["disk", "size"]))]
pub(in crate::config) struct RawOsdDb {
    /// Which disk.
    pub(in crate::config) disk: Given<RawDisk>,
    /// How much of it each OSD gets: 60GiB.
    pub(in crate::config) size: Given<ByteSize>,
}

/// What is kept from guests, for storage.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Reserve")]
pub(in crate::config) struct RawReserve {
    /// Logical CPUs. Default: 2.
    pub(in crate::config) cpus: Given<u16>,
    /// Memory. Default: 4GiB.
    pub(in crate::config) memory: Given<ByteSize>,
}

/// Where a node's networks differ from the cluster's.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "NodeNetworks")]
pub(in crate::config) struct RawNodeNetworks {
    /// Towards the users and the world.
    pub(in crate::config) upstream: Given<RawNodeNetwork>,
    /// Between the nodes.
    pub(in crate::config) cluster: Given<RawNodeNetwork>,
    /// Ceph's traffic.
    pub(in crate::config) storage: Given<RawNodeNetwork>,
}

impl RawNodeNetworks {
    /// The network of this name.
    pub(in crate::config) fn get(&self, name: NetworkName) -> &Given<RawNodeNetwork> {
        match name {
            NetworkName::Upstream => &self.upstream,
            NetworkName::Cluster => &self.cluster,
            NetworkName::Storage => &self.storage,
        }
    }
}

/// Where one network differs on this node.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "NodeNetwork")]
pub(in crate::config) struct RawNodeNetwork {
    /// The link that carries it on this node.
    pub(in crate::config) link: Given<IfName>,
    /// The largest packet in bytes on this node.
    pub(in crate::config) mtu: Given<Mtu>,
    /// IPv4 on this node.
    pub(in crate::config) ipv4: Given<RawNodeFamily<AddressV4>>,
    /// IPv6 on this node.
    pub(in crate::config) ipv6: Given<RawNodeFamily<AddressV6>>,
}

/// The node's own address instead of the one that follows from its ID.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, bound = "A: Deserialize<'de>")]
#[schemars(rename = "NodeAddress_{A}")]
pub(in crate::config) struct RawNodeFamily<A> {
    /// The address, inside the network's subnet.
    pub(in crate::config) address: Given<A>,
}

impl<A> Default for RawNodeFamily<A> {
    fn default() -> Self {
        Self { address: Given::Absent }
    }
}
