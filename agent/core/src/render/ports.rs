//! Who listens where. The firewall opens these and nothing else.

/// The agents' peer API, HTTPS, on the cluster network.
pub const PEERS: u16 = crate::peers::PORT;
/// The agents' API for operators, HTTPS, on the upstream network.
pub const OPERATORS: u16 = crate::operators::PORT;
/// ZooKeeper's clients, TLS, on the cluster network: the port that its documentation uses for TLS.
pub const ZOOKEEPER: u16 = crate::zookeeper::CLIENT_PORT;
/// ZooKeeper's followers to their leader, TLS, on the cluster network.
pub const ZOOKEEPER_QUORUM: u16 = 2888;
/// ZooKeeper's elections, TLS, on the cluster network.
pub const ZOOKEEPER_ELECTION: u16 = 3888;
/// Patroni's REST API, mutual TLS, on the cluster network.
pub const PATRONI: u16 = crate::patroni::PORT;
/// libvirt's TLS port, on the cluster network.
pub const LIBVIRT: u16 = 16514;
/// Machines that come from another node: QEMU listens on one of these for each, on the cluster network.
pub const MIGRATION: (u16, u16) = (49152, 49215);
/// BGP (RFC 4271), on the cluster network and towards routers upstream.
pub const BGP: u16 = 179;
/// BFD: control and echo over one hop (RFC 5881), control over several (RFC 5883).
pub const BFD: [u16; 3] = [3784, 3785, 4784];
/// NTP, on the cluster network.
pub const NTP: u16 = 123;
/// Ceph's monitors, second version of its protocol only, on Ceph's public network.
pub const CEPH_MONITOR: u16 = 3300;
/// Ceph's OSDs and managers (`ms_bind_port_min`, `ms_bind_port_max`), on both of Ceph's networks.
pub const CEPH: (u16, u16) = (6800, 7568);
/// SSH, towards upstream.
pub const SSH: u16 = 22;
