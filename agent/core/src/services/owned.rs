//! What the agent is the owner of. It stops no other unit, and removes no other file.
//!
//! A static list needs no memory: what the cluster file no longer asks for is stopped and removed also by an agent
//! that was restarted or replaced meanwhile. **A service that is added to the node gets its lines here**; a test
//! fails if a node asks for a unit or a file that is not owned.

use super::names::{Template, UnitName};
use crate::render::{
    ceph, chrony, firewall, frr, host, journal, libvirt, patroni, ssh, wave, zookeeper,
};

/// The SSH server: it runs on a node whose cluster file has at least one key.
pub const SSH: UnitName = UnitName::fixed("ssh.service");

/// Where sshd looks for root's keys (`AuthorizedKeysFile` in the image's sshd configuration).
pub const AUTHORIZED_KEYS: &str = "/run/trilith/authorized_keys";

/// The units.
pub const UNITS: &[UnitName] = &[
    SSH,
    chrony::UNIT,
    firewall::UNIT,
    frr::UNIT,
    host::UNIT,
    journal::JOURNALD_UNIT,
    journal::RSYSLOG_UNIT,
    libvirt::SLICE,
    libvirt::UNIT,
    patroni::UNIT,
    wave::UNIT,
    zookeeper::UNIT,
];

/// All instances of these.
pub const TEMPLATES: &[Template] = &[ceph::MANAGER, ceph::MONITOR, ceph::OSD, ceph::DISK];

/// Single files.
pub const FILES: &[&str] = &[
    AUTHORIZED_KEYS,
    ceph::CONFIG,
    chrony::CONFIG,
    firewall::CONFIG,
    frr::CONFIG,
    frr::DAEMONS,
    host::HOSTNAME,
    host::HOSTS,
    host::RESOLVER,
    journal::JOURNALD,
    journal::RSYSLOG,
    libvirt::CONFIG,
    libvirt::QEMU_CONFIG,
    zookeeper::CONFIG,
    zookeeper::ENVIRONMENT,
];

/// Folders that hold nothing but the agent's files: whatever else is found in them goes. For secrets,
/// `/run/trilith/<service>`, one folder for each user who may read it.
pub const FOLDERS: &[&str] = &[
    ceph::AGENT_SECRETS,
    ceph::SECRETS,
    journal::SECRETS,
    libvirt::QEMU_SECRETS,
    libvirt::SECRETS,
    patroni::SECRETS,
    ssh::SECRETS,
    crate::wave::settings::SECRETS,
    zookeeper::SECRETS,
];

/// The folder of the marks: a unit that has a file of its name here runs with an older configuration than what is
/// on the disk.
pub const PENDING: &str = "/run/trilith/pending";

/// Below it, each folder holds the secrets of one service.
pub const SECRETS: &str = "/run/trilith/";

/// Whether the agent starts and stops this unit.
pub fn is_unit(name: &UnitName) -> bool {
    let template = name.template();
    UNITS.contains(name) || template.is_some_and(|(template, _)| TEMPLATES.contains(&template))
}

/// Whether the agent may remove this file.
pub fn is_file(path: &str) -> bool {
    let folder = path.rsplit_once('/').map(|(folder, _)| folder);
    FILES.contains(&path) || folder.is_some_and(|folder| FOLDERS.contains(&folder))
}
