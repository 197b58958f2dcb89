//! Ceph 18: `ceph.conf` and the keyrings of what runs on the node.
//!
//! Only the second version of Ceph's protocol is spoken, in its secure mode, so that everything is encrypted, and
//! every client needs a key.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Facts, HEADER, before_others, bracketed, ports};
use crate::config::{FailureDomain, NetworkName};
use crate::osds;
use crate::services::{Checker, Desired, File, Instances, Limits, Owner, Template, UnitWish};
use crate::subject::Subject as _;
use crate::turns;

/// The monitors, named after their nodes.
pub const MONITOR: Template = Template::fixed("ceph-mon@.service");
/// The managers, named after their nodes.
pub const MANAGER: Template = Template::fixed("ceph-mgr@.service");
/// The OSDs, named by number.
pub const OSD: Template = Template::fixed("ceph-osd@.service");
/// What brings up, and first makes, the OSD on a disk; named after the disk.
pub const DISK: Template = Template::fixed("trilith-osd@.service");

/// The configuration that every program of Ceph reads.
pub const CONFIG: &str = "/etc/ceph/ceph.conf";
/// The folder of the keyrings, for Ceph's user.
pub const SECRETS: &str = "/run/trilith/ceph";
/// What the first monitors are made with (`ceph-mon --mkfs --keyring`).
pub const MONITORS_KEYRING: &str = "/run/trilith/ceph/monitors.keyring";
/// The folder of the keyring of the agent, for root alone.
pub const AGENT_SECRETS: &str = "/run/trilith/agent";

/// The levels of Ceph's default hierarchy that a label can name (`ceph osd crush dump`, "types").
const LEVELS: [&str; 9] =
    ["chassis", "rack", "row", "pdu", "pod", "room", "datacenter", "zone", "region"];

/// Ceph's daemons of the node.
///
/// A monitor and a manager start when the subject `ceph` has found the data right, an OSD when its folder is filled.
/// A changed `ceph.conf` restarts them when the subject says that data stays available without them.
pub fn desired(facts: Facts<'_>) -> Desired {
    let mut desired = Desired::default();
    desired.files.insert(CONFIG.into(), File::new(config(facts)).checked_by(Checker::Ceph));
    for (path, file) in keyrings(facts) {
        desired.files.insert(path, file);
    }
    let restart = turns::permit(crate::ceph::Ceph::NAME);
    let wish = || UnitWish::default().restarts_on(CONFIG).asks(&restart);
    if facts.coordinates() {
        let keys = format!("{SECRETS}/");
        let monitor = wish().needs(crate::ceph::MONITOR_PERMIT).limited(before_others());
        desired.units.insert(MONITOR.of_node(&facts.node.name), monitor);
        let manager = wish().restarts_on(keys).needs(crate::ceph::MANAGER_PERMIT);
        desired.units.insert(MANAGER.of_node(&facts.node.name), manager);
    }
    let memory = facts.config.settings.ceph.osd_memory.bytes();
    let limits = Limits {
        memory_low: Some(memory),
        cpu_weight: Some(400),
        io_weight: Some(400),
        ..Limits::default()
    };
    // `ready` is the last that an OSD's activation writes into its folder.
    let osd = wish().needs(format!("{}/ceph-%i/ready", osds::ACTIVE)).limited(limits);
    let folder = osds::ACTIVE.into();
    desired.instances.insert(OSD, Instances { folder, prefix: "ceph-".into(), wish: osd });
    // One for each disk that the subject `osds` wishes for: it fills that folder.
    let wish = UnitWish::default().needs(format!("{}/{}%i/wish", osds::FOLDER, osds::PREFIX));
    let (folder, prefix) = (osds::FOLDER.into(), osds::PREFIX.into());
    desired.instances.insert(DISK, Instances { folder, prefix, wish });
    desired
}

/// Keyrings by path: those of daemons for Ceph's user, those that the agent uses for root.
fn keyrings(facts: Facts<'_>) -> Vec<(String, File)> {
    let ceph = Owner::new("ceph", "ceph");
    let mut files = Vec::new();
    for (entity, key) in &facts.secrets.ceph.keys {
        let text = format!("[{entity}]\n\tkey = {}\n", key.reveal());
        if entity.starts_with("client.") {
            let path = format!("{AGENT_SECRETS}/ceph.{entity}.keyring");
            files.push((path, File::secret(text, Owner::default())));
        } else if *entity == format!("mgr.{}", facts.node.name) {
            let path = format!("{SECRETS}/{entity}.keyring");
            files.push((path, File::secret(text, ceph.clone())));
        }
    }
    if facts.coordinates() {
        let path = MONITORS_KEYRING.to_owned();
        files.push((path, File::secret(monitors_keyring(facts), ceph)));
    }
    files
}

/// `ceph.conf`.
fn config(facts: Facts<'_>) -> String {
    let ceph = &facts.config.settings.ceph;
    let subnets = |name| subnets(facts, name);
    let names: Vec<&str> =
        facts.config.coordinator_nodes().map(|node| node.name.as_str()).collect();
    let mut text = format!(
        "{HEADER}
[global]
fsid = {fsid}
mon initial members = {names}
mon host = {hosts}
public network = {public}
cluster network = {cluster}
{binding}
{EVERYWHERE}
osd pool default size = {size}
osd pool default min size = {min_size}
osd crush chooseleaf type = {leaf}
mon allow pool size one = {single}
",
        fsid = facts.secrets.ceph.fsid,
        names = names.join(", "),
        hosts = monitors(facts),
        public = subnets(ceph.public_network),
        cluster = subnets(ceph.cluster_network),
        binding = binding(facts),
        size = ceph.pool.size,
        min_size = ceph.pool.min_size,
        single = ceph.pool.size == 1,
        leaf = u8::from(ceph.failure_domain != FailureDomain::Osd),
    );
    text.push_str(&daemons(facts));
    text
}

/// What is the same in every cluster.
const EVERYWHERE: &str = "\
# The second protocol only, encrypted everywhere.
ms bind msgr1 = false
ms bind msgr2 = true
ms cluster mode = secure
ms service mode = secure
ms client mode = secure
ms mon cluster mode = secure
ms mon service mode = secure
ms mon client mode = secure
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false

# The journal keeps what daemons say.
log to file = false
log to stderr = false
log to journald = true
mon cluster log to file = false
mon cluster log to journald = true
# Else the database inside tells hundreds of settings at each start.
debug rocksdb = 1/5
debug bluestore = 0/5

# Shares of /var, which is most of a disk here: at Ceph's own 5 % a monitor would stop with gigabytes to spare.
mon data avail warn = 10
mon data avail crit = 1

# Of the managers' modules that may be left out. The others by default: one serves a second API, one exports NFS.
mgr initial modules = iostat
";

/// What differs between kinds of daemons.
fn daemons(facts: Facts<'_>) -> String {
    let mut text = String::new();
    if facts.coordinates() {
        let own = bracketed(facts.own(facts.config.settings.ceph.public_network));
        let _ = write!(
            text,
            "
[mon.{name}]
public addr = v2:{own}:{port}/0

[mgr]
keyring = {SECRETS}/$name.keyring

[client.admin]
keyring = {AGENT_SECRETS}/ceph.client.admin.keyring
",
            name = facts.node.name,
            port = ports::CEPH_MONITOR,
        );
    }
    let _ = write!(
        text,
        "
[osd]
osd memory target = {memory}
# Else each writes to its disk for seconds at every start to measure it, all at once after a power cut; the known rates
# of its kind of disk are near enough to share it fairly.
osd mclock skip benchmark = true
crush location = {location}

[client.bootstrap-osd]
keyring = {AGENT_SECRETS}/ceph.client.bootstrap-osd.keyring

[client.trilith]
keyring = {AGENT_SECRETS}/ceph.client.trilith.keyring
",
        memory = facts.config.settings.ceph.osd_memory.bytes(),
        location = location(facts),
    );
    text
}

/// Every monitor, by the second protocol's address.
fn monitors(facts: Facts<'_>) -> String {
    let monitors = facts.coordinators(facts.config.settings.ceph.public_network);
    let hosts = monitors
        .map(|(_, address)| format!("[v2:{}:{}/0]", bracketed(address), ports::CEPH_MONITOR));
    hosts.collect::<Vec<_>>().join(",")
}

/// The network's subnets of the family that Ceph uses. It must not be told of others: it would bind to both, and a
/// map with monitors of one family only is what the others have.
fn subnets(facts: Facts<'_>, name: NetworkName) -> String {
    let v6 = by_v6(facts);
    let networks = facts.config.networks.get(name).into_iter().flat_map(|net| &net.subnets);
    let subnets = networks.map(|subnet| subnet.net).filter(|net| net.addr().is_ipv6() == v6);
    subnets.map(|net| net.to_string()).collect::<Vec<_>>().join(", ")
}

fn by_v6(facts: Facts<'_>) -> bool {
    matches!(facts.own(facts.config.settings.ceph.public_network), IpAddr::V6(_))
}

fn binding(facts: Facts<'_>) -> String {
    let (v6, (low, high)) = (by_v6(facts), ports::CEPH);
    format!(
        "ms bind ipv4 = {}\nms bind ipv6 = {v6}\nms bind port min = {low}\nms bind port max = {high}\n",
        !v6
    )
}

/// Where OSDs of the node stand in the hierarchy. A label that is no level of Ceph's own stands for a rack.
fn location(facts: Facts<'_>) -> String {
    let mut location = "root=default".to_owned();
    if let FailureDomain::Label(key) = &facts.config.settings.ceph.failure_domain
        && let Some(value) = facts.node.labels.get(key)
    {
        let _ = write!(location, " {}={}", level(key.as_str()), value);
    }
    let _ = write!(location, " host={}", facts.node.name);
    location
}

/// The level of the hierarchy at which copies are kept apart, as a CRUSH rule names it.
pub fn failure_domain(domain: &FailureDomain) -> &str {
    match domain {
        FailureDomain::Osd => "osd",
        FailureDomain::Host => "host",
        FailureDomain::Label(key) => level(key.as_str()),
    }
}

fn level(label: &str) -> &str {
    if LEVELS.contains(&label) { label } else { "rack" }
}

/// What `client.trilith` may ask of monitors.
const LOOKS: &str = "allow r, \
    allow command 'osd set-group' with flags=noout, allow command 'osd unset-group' with flags=noout";

/// The keyring that the first monitors are made with: every key with its capabilities, so that nothing has to be
/// created later. What clients may is kept up afterwards (`crate::pools`).
///
/// The capabilities are those that monitors give by themselves (`ceph auth get client.bootstrap-osd`), and Ceph's
/// profiles for the rest.
fn monitors_keyring(facts: Facts<'_>) -> String {
    let mut text = String::new();
    for (entity, key) in &facts.secrets.ceph.keys {
        let _ = writeln!(text, "[{entity}]\n\tkey = {}", key.reveal());
        for (service, allowed) in capabilities(entity) {
            let _ = writeln!(text, "\tcaps {service} = \"{allowed}\"");
        }
    }
    text
}

/// What an entity may do, by the kind of daemon that it asks.
pub(crate) fn capabilities(entity: &str) -> &'static [(&'static str, &'static str)] {
    match entity {
        "mon." => &[("mon", "allow *")],
        "client.admin" => {
            &[("mon", "allow *"), ("mgr", "allow *"), ("osd", "allow *"), ("mds", "allow *")]
        }
        "client.bootstrap-osd" => &[("mon", "profile bootstrap-osd")],
        "client.libvirt" => {
            &[("mon", "profile rbd"), ("osd", "profile rbd"), ("mgr", "profile rbd")]
        }
        // It looks, and changes no data: a node that only carries machines has no more. The wave keeps OSDs of a host
        // that restarts from being copied.
        "client.trilith" => &[("mon", LOOKS), ("mgr", "allow r"), ("osd", "allow r")],
        mgr if mgr.starts_with("mgr.") => {
            &[("mon", "allow profile mgr"), ("osd", "allow *"), ("mds", "allow *")]
        }
        _ => &[],
    }
}
