//! Settings of services, the same on every node.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NetworkName;
use crate::names::{
    Asn, ByteSize, Channel, Endpoint, LabelKey, Period, SecretName, Sha256, TimeOfDay,
};
use crate::update::Source;

/// Settings of services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Ceph.
    pub ceph: Ceph,
    /// Postgres and Patroni.
    pub postgres: Postgres,
    /// ZooKeeper.
    pub zookeeper: ZooKeeper,
    /// FRR; `None`: no routing beyond the cluster.
    pub frr: Option<Frr>,
    /// Where releases come from; `None`: only by hand.
    pub update: Option<Update>,
    /// Logging.
    pub logging: Logging,
    /// Metrics.
    pub metrics: Metrics,
}

/// Ceph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ceph {
    /// The network of clients and monitors.
    pub public_network: NetworkName,
    /// The network of replication.
    pub cluster_network: NetworkName,
    /// What must not hold two copies.
    pub failure_domain: FailureDomain,
    /// How new pools are made.
    pub pool: Pool,
    /// The memory target of one OSD (`osd_memory_target`).
    pub osd_memory: ByteSize,
}

impl Ceph {
    /// Where the cluster file says nothing.
    pub const DEFAULT: Self = Self {
        public_network: NetworkName::Storage,
        cluster_network: NetworkName::Storage,
        failure_domain: FailureDomain::Host,
        pool: Pool::DEFAULT,
        osd_memory: ByteSize::mib(4096), // Ceph's own (osd_memory_target)
    };
}

/// What must not hold two copies of the same data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureDomain {
    /// A disk: for a lab of one node.
    Osd,
    /// A node.
    Host,
    /// Nodes with the same value of this label.
    Label(LabelKey),
}

impl fmt::Display for FailureDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Osd => f.write_str("osd"),
            Self::Host => f.write_str("host"),
            Self::Label(key) => key.fmt(f),
        }
    }
}

/// How many copies a pool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Copies when all is well.
    pub size: u8,
    /// Copies below which it stops writing, at most `size`.
    pub min_size: u8,
}

impl Pool {
    /// Where the cluster file says nothing: Ceph's own (`osd_pool_default_size`, `osd_pool_default_min_size`).
    pub const DEFAULT: Self = Self { size: 3, min_size: 2 };
}

/// Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Postgres {
    /// The TCP port.
    pub port: u16,
    /// `max_connections`.
    pub max_connections: u16,
    /// `shared_buffers`.
    pub shared_buffers: ByteSize,
    /// Patroni, which keeps one leader.
    pub patroni: Patroni,
}

impl Postgres {
    /// Where the cluster file says nothing: Postgres' own.
    pub const DEFAULT: Self = Self {
        port: 5432,
        max_connections: 100,
        shared_buffers: ByteSize::mib(128),
        patroni: Patroni::DEFAULT,
    };
}

/// Patroni's timing. `loop_wait + 2 * retry_timeout <= ttl` holds, else a slow answer costs the leader its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Patroni {
    /// How long a leader stays one without renewing.
    pub ttl: Period,
    /// How often it looks.
    pub loop_wait: Period,
    /// How long it keeps asking ZooKeeper or Postgres before it gives up.
    pub retry_timeout: Period,
    /// A replica further behind does not become leader.
    pub max_lag: ByteSize,
    /// Whether a commit waits for a replica.
    pub synchronous: bool,
}

impl Patroni {
    /// Where the cluster file says nothing: Patroni's own, but no commit is lost with the leader.
    pub const DEFAULT: Self = Self {
        ttl: Period::seconds(30),
        loop_wait: Period::seconds(10),
        retry_timeout: Period::seconds(10),
        max_lag: ByteSize::mib(1),
        synchronous: true,
    };
}

/// ZooKeeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ZooKeeper {
    /// The unit of its time (`tickTime`).
    pub tick: Period,
    /// Ticks that a follower may take to connect and catch up (`initLimit`).
    pub init_limit: u16,
    /// Ticks that a follower may be behind (`syncLimit`).
    pub sync_limit: u16,
    /// Connections per client address (`maxClientCnxns`).
    pub max_connections: u16,
    /// The Java heap.
    pub heap: ByteSize,
}

impl ZooKeeper {
    /// Where the cluster file says nothing: those of ZooKeeper's administrator's guide; the heap is ample for
    /// a tree without bulk data.
    pub const DEFAULT: Self = Self {
        tick: Period::seconds(2),
        init_limit: 10,
        sync_limit: 5,
        max_connections: 60,
        heap: ByteSize::mib(256),
    };
}

/// FRR: BGP with the routers upstream, and inside the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frr {
    /// The cluster's own AS.
    pub asn: Asn,
    /// The routers upstream.
    pub peers: Vec<FrrPeer>,
    /// Timers of BFD, for the peers that use it.
    pub bfd: Bfd,
}

/// A router upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FrrPeer {
    /// Its address, inside an upstream subnet unless `multihop`.
    pub address: IpAddr,
    /// Its AS.
    pub asn: Asn,
    /// The entry of the secrets file that holds the TCP MD5 password.
    pub secret: Option<SecretName>,
    /// Whether BFD watches it.
    pub bfd: bool,
    /// Whether it is more than one hop away.
    pub multihop: bool,
}

/// Timers of BFD (RFC 5880).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bfd {
    /// Packets missed until the peer counts as dead.
    pub multiplier: u8,
    /// The least time between packets received.
    pub receive: Period,
    /// The least time between packets sent.
    pub transmit: Period,
}

impl Bfd {
    /// Where the cluster file says nothing: FRR's own (bfdd(8)).
    pub const DEFAULT: Self =
        Self { multiplier: 3, receive: Period::millis(300), transmit: Period::millis(300) };
}

/// Where releases come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Update {
    /// Where releases are.
    pub source: Source,
    /// The SHA-256 of the first root of the keys that sign them.
    pub trust: Sha256,
    /// Which releases.
    pub channel: Channel,
    /// When nodes may restart; `None`: at any time.
    pub window: Option<Window>,
    /// How long a node may take to prove a release.
    pub trial: Period,
}

impl Update {
    /// How long that is where the cluster file says nothing.
    pub const TRIAL: Period = Period::seconds(15 * 60);
}

/// A weekly time in which nodes may restart. It may pass midnight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// On which days it begins; never empty.
    pub days: BTreeSet<Weekday>,
    /// When it begins, UTC.
    pub from: TimeOfDay,
    /// When it ends, UTC; if not after `from`, on the next day.
    pub to: TimeOfDay,
}

/// A day of the week.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the days of the week explain themselves")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Weekday {
    /// The whole week, Monday first (ISO 8601).
    pub const ALL: [Self; 7] =
        [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Logging {
    /// Where the journal is sent; `None`: it stays on the node.
    pub remote: Option<LogRemote>,
    /// How much of /var the journal may take.
    pub keep: ByteSize,
}

impl Logging {
    /// Where the cluster file says nothing.
    pub const DEFAULT: Self = Self { remote: None, keep: ByteSize::mib(1024) };
}

/// A remote log server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogRemote {
    /// Where it listens.
    pub address: Endpoint,
    /// How it is spoken to.
    pub protocol: LogProtocol,
}

/// How a log server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogProtocol {
    /// Syslog over TLS (RFC 5425).
    SyslogTls,
    /// Syslog over TCP (RFC 6587).
    SyslogTcp,
    /// Syslog over UDP (RFC 5426).
    SyslogUdp,
}

/// Metrics in the Prometheus text format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// The network on which they are served; `None`: on the local socket only.
    pub network: Option<NetworkName>,
    /// The TCP port.
    pub port: u16,
}

impl Metrics {
    /// Where the cluster file says nothing.
    pub const DEFAULT: Self = Self { network: None, port: 9555 };
}
