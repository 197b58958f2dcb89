//! Settings of services as a person writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Address, List};
use crate::config::given::Given;
use crate::config::{LogProtocol, NetworkName, Weekday};
use crate::names::{
    Asn, ByteSize, Channel, Count, Endpoint, LabelKey, Period, SecretName, Sha256, TimeOfDay,
};
use crate::update::Source;

/// Ceph.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Ceph")]
pub(in crate::config) struct RawCeph {
    /// The core network of clients and monitors. Default: storage.
    pub(in crate::config) public_network: Given<NetworkName>,
    /// The core network of replication. Default: storage.
    pub(in crate::config) cluster_network: Given<NetworkName>,
    /// What must not hold two copies: osd, host, or a label of the nodes such as rack. Default: host.
    pub(in crate::config) failure_domain: Given<LabelKey>,
    /// How new pools are made.
    pub(in crate::config) pool: Given<RawPool>,
    /// The memory target of one OSD. Default: 4GiB.
    pub(in crate::config) osd_memory: Given<ByteSize>,
}

/// How many copies a pool holds.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Pool")]
pub(in crate::config) struct RawPool {
    /// Copies when all is well. Default: 3.
    pub(in crate::config) size: Given<u8>,
    /// Copies below which it stops writing. Default: 2.
    pub(in crate::config) min_size: Given<u8>,
}

/// Postgres and Patroni.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Postgres")]
pub(in crate::config) struct RawPostgres {
    /// The TCP port. Default: 5432.
    pub(in crate::config) port: Given<Count>,
    /// Connections at most. Default: 100.
    pub(in crate::config) max_connections: Given<Count>,
    /// Memory for shared buffers. Default: 128MiB.
    pub(in crate::config) shared_buffers: Given<ByteSize>,
    /// Patroni, which keeps one leader.
    pub(in crate::config) patroni: Given<RawPatroni>,
}

/// Patroni's timing.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Patroni")]
pub(in crate::config) struct RawPatroni {
    /// How long a leader stays one without renewing; at least `loop_wait` + 2 * `retry_timeout`. Default: 30s.
    pub(in crate::config) ttl: Given<Period>,
    /// How often it looks. Default: 10s.
    pub(in crate::config) loop_wait: Given<Period>,
    /// How long it keeps asking before it gives up. Default: 10s.
    pub(in crate::config) retry_timeout: Given<Period>,
    /// A replica further behind does not become leader. Default: 1MiB.
    pub(in crate::config) max_lag: Given<ByteSize>,
    /// Whether a commit waits for a replica. Default: true.
    pub(in crate::config) synchronous: Given<bool>,
}

/// ZooKeeper.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ZooKeeper")]
pub(in crate::config) struct RawZooKeeper {
    /// The unit of its time. Default: 2s.
    pub(in crate::config) tick: Given<Period>,
    /// Ticks that a follower may take to connect and catch up. Default: 10.
    pub(in crate::config) init_limit: Given<Count>,
    /// Ticks that a follower may be behind. Default: 5.
    pub(in crate::config) sync_limit: Given<Count>,
    /// Connections per client address. Default: 60.
    pub(in crate::config) max_connections: Given<Count>,
    /// The Java heap. Default: 256MiB.
    pub(in crate::config) heap: Given<ByteSize>,
}

/// BGP towards the routers upstream.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Frr", extend("required" = ["asn"]))]
pub(in crate::config) struct RawFrr {
    /// The cluster's own AS number.
    pub(in crate::config) asn: Given<Asn>,
    /// The routers upstream.
    pub(in crate::config) peers: List<RawFrrPeer>,
    /// Timers of BFD, for the peers that use it.
    pub(in crate::config) bfd: Given<RawBfd>,
}

/// A router upstream.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "FrrPeer", extend("required" = ["address"]))]
pub(in crate::config) struct RawFrrPeer {
    /// Its address, inside an upstream subnet unless `multihop`.
    pub(in crate::config) address: Given<Address>,
    /// Its AS number. Default: the cluster's own.
    pub(in crate::config) asn: Given<Asn>,
    /// The entry of the secrets file that holds the TCP MD5 password. Default: none.
    pub(in crate::config) secret: Given<SecretName>,
    /// Whether BFD watches it. Default: true.
    pub(in crate::config) bfd: Given<bool>,
    /// Whether it is more than one hop away. Default: false.
    pub(in crate::config) multihop: Given<bool>,
}

/// Timers of BFD.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Bfd")]
pub(in crate::config) struct RawBfd {
    /// Packets missed until the peer counts as dead. Default: 3.
    pub(in crate::config) multiplier: Given<u8>,
    /// The least time between packets received. Default: 300ms.
    pub(in crate::config) receive: Given<Period>,
    /// The least time between packets sent. Default: 300ms.
    pub(in crate::config) transmit: Given<Period>,
}

/// Where new releases come from.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Update", extend("required" = ["source", "trust"]))]
pub(in crate::config) struct RawUpdate {
    /// Where releases are: the base URL of a web server, or an absolute
    /// folder, such as `/run/media/trilith/releases` on a stick that is
    /// labelled `trilith`.
    pub(in crate::config) source: Given<Source>,
    /// The SHA-256 of the first root of the keys that sign the releases, as
    /// `trilith keys show` prints it.
    pub(in crate::config) trust: Given<Sha256>,
    /// Which releases. Default: stable.
    pub(in crate::config) channel: Given<Channel>,
    /// When nodes may restart. Default: at any time.
    pub(in crate::config) window: Given<RawWindow>,
    /// How long a node that was upgraded may take to be what it was before,
    /// until it goes back by itself. Default: 15m.
    pub(in crate::config) trial: Given<Period>,
}

/// When nodes may restart. It may pass midnight.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Window", extend("required" = ["from", "to"]))]
pub(in crate::config) struct RawWindow {
    /// On which days it begins. Default: every day.
    pub(in crate::config) days: List<Weekday>,
    /// When it begins, UTC: "02:00".
    pub(in crate::config) from: Given<TimeOfDay>,
    /// When it ends, UTC: "05:00".
    pub(in crate::config) to: Given<TimeOfDay>,
}

/// Where logs go.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Logging")]
pub(in crate::config) struct RawLogging {
    /// A remote log server. Default: none.
    pub(in crate::config) remote: Given<RawLogRemote>,
    /// How much of /var the journal may take. Default: 1GiB.
    pub(in crate::config) keep: Given<ByteSize>,
}

/// A remote log server.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "LogRemote", extend("required" = ["address"]))]
pub(in crate::config) struct RawLogRemote {
    /// Its host and port: logs.example.net:6514.
    pub(in crate::config) address: Given<Endpoint>,
    /// How it is spoken to. Default: syslog-tls.
    pub(in crate::config) protocol: Given<LogProtocol>,
}

/// Where metrics are served.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Metrics")]
pub(in crate::config) struct RawMetrics {
    /// The core network on which they are served. Default: on the node's local socket only.
    pub(in crate::config) network: Given<NetworkName>,
    /// The TCP port. Default: 9555.
    pub(in crate::config) port: Given<Count>,
}
