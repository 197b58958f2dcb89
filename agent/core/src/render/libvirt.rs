//! libvirt's monolithic daemon, as Debian 13 has it, and QEMU.
//!
//! Other nodes reach it by TLS alone, as nodes of this cluster: the name in the certificate is on a list. Machines
//! move between nodes by QEMU's own TLS, each side checking the other.

use std::fmt::Write as _;

use super::tls::{self, Names};
use super::{Facts, HEADER, ports};
use crate::config::NetworkName;
use crate::services::{Desired, File, Owner, UnitName, UnitWish};

/// The unit, on every node. Its sockets come with it.
pub const UNIT: UnitName = UnitName::fixed("libvirtd.service");

/// What all machines run in: systemd-machined and libvirt put them there.
pub const SLICE: UnitName = UnitName::fixed("machine.slice");

/// The daemon's configuration.
pub const CONFIG: &str = "/etc/libvirt/libvirtd.conf";
/// QEMU's driver's.
pub const QEMU_CONFIG: &str = "/etc/libvirt/qemu.conf";
/// The folder of the daemon's certificates, named as libvirt's clients look for them (`pkipath=` of a URI).
pub const SECRETS: &str = "/run/trilith/libvirt";
/// The folder of QEMU's certificates, named as QEMU looks for them.
pub const QEMU_SECRETS: &str = "/run/trilith/qemu";

/// libvirt on every node. A restart leaves machines alone; QEMU reads its certificates when it needs them.
pub fn desired(facts: Facts<'_>) -> Desired {
    let identity = &facts.secrets.identity;
    let of_daemon = Names {
        authority: Some("cacert.pem"),
        certificates: &["clientcert.pem", "servercert.pem"],
        keys: &["clientkey.pem", "serverkey.pem"],
    };
    let of_qemu = Names {
        authority: Some("ca-cert.pem"),
        certificates: &["client-cert.pem", "server-cert.pem"],
        keys: &["client-key.pem", "server-key.pem"],
    };
    let mut desired = tls::apart(identity, SECRETS, &Owner::default(), &of_daemon);
    let qemu_user = Owner::new("libvirt-qemu", "libvirt-qemu");
    desired.add(tls::apart(identity, QEMU_SECRETS, &qemu_user, &of_qemu));
    desired.files.insert(CONFIG.into(), File::new(config(facts)));
    desired.files.insert(QEMU_CONFIG.into(), File::new(qemu(facts)));
    let wish = UnitWish::default()
        .restarts_on(CONFIG)
        .restarts_on(QEMU_CONFIG)
        .restarts_on(format!("{SECRETS}/"));
    desired.units.insert(UNIT, wish);
    desired.units.insert(SLICE, UnitWish::default().leaves(facts.node.reserve));
    desired
}

/// `libvirtd.conf`.
fn config(facts: Facts<'_>) -> String {
    let mut text = format!(
        "{HEADER}\
# The sockets are systemd's; the one for all is not started, the other is root's.
unix_sock_ro_perms = \"0700\"
unix_sock_rw_perms = \"0700\"
auth_unix_ro = \"none\"
auth_unix_rw = \"none\"

listen_tls = 1
listen_tcp = 0
tls_port = \"{port}\"
# The certificate is the proof of who calls.
auth_tls = \"none\"
tls_no_verify_certificate = 0
tls_priority = \"NORMAL:-VERS-ALL:+VERS-TLS1.3\"
ca_file = \"{SECRETS}/cacert.pem\"
cert_file = \"{SECRETS}/servercert.pem\"
key_file = \"{SECRETS}/serverkey.pem\"
",
        port = ports::LIBVIRT,
    );
    text.push_str("tls_allowed_dn_list = [\n");
    for node in facts.config.nodes.values() {
        let _ = writeln!(text, "  \"{}\",", facts.certificate_subject(node));
    }
    text.push_str("]\n\n");
    text.push_str(
        "# The machine ID is the node's for life; serial numbers of boards are not always unique.
host_uuid_source = \"machine-id\"
log_outputs = \"3:journald\"
# A peer that is gone is given up after 30 s.
keepalive_interval = 5
keepalive_count = 5
",
    );
    text
}

/// `qemu.conf`.
fn qemu(facts: Facts<'_>) -> String {
    let (low, high) = ports::MIGRATION;
    format!(
        "{HEADER}\
# Whatever QEMU listens for: the same certificates, both sides checked, nothing in plain text.
default_tls_x509_cert_dir = \"{QEMU_SECRETS}\"
default_tls_x509_verify = 1
migrate_tls_x509_cert_dir = \"{QEMU_SECRETS}\"
migrate_tls_x509_verify = 1
migrate_tls_force = 1
nbd_tls = 1
nbd_tls_x509_cert_dir = \"{QEMU_SECRETS}\"
chardev_tls = 1
chardev_tls_x509_cert_dir = \"{QEMU_SECRETS}\"
chardev_tls_x509_verify = 1
vnc_tls = 1
vnc_tls_x509_cert_dir = \"{QEMU_SECRETS}\"
vnc_tls_x509_verify = 1
vnc_listen = \"127.0.0.1\"

migration_address = \"{own}\"
migration_host = \"{own}\"
migration_port_min = {low}
migration_port_max = {high}

seccomp_sandbox = 1
max_core = 0
",
        own = facts.own(NetworkName::Cluster),
    )
}
