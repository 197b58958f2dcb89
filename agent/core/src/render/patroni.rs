//! Patroni 4 with PostgreSQL 17: one leader, kept by ZooKeeper, and replicas on the other coordinators.
//!
//! Postgres and Patroni's REST API speak TLS alone, on the cluster network. A connection needs a certificate of the
//! cluster and a SCRAM password; on the node itself only the user `postgres` gets in, by the Unix socket.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

use super::tls::{self, Names};
use super::{Facts, HEADER, before_others, bracketed, ports};
use crate::config::{NetworkName, Postgres};
use crate::patroni::{Account, PERMIT};
use crate::secrets::{self, Identity, Secret};
use crate::services::{Checker, Desired, File, Owner, UnitName, UnitWish};

/// The unit, on coordinators.
pub const UNIT: UnitName = UnitName::fixed("patroni.service");

/// The folder of the configuration, passwords in it, and of the certificates.
pub const SECRETS: &str = "/run/trilith/patroni";
/// The database cluster, by major version: another version is another folder.
pub const DATA: &str = "/var/lib/postgresql/17/main";
/// Where Postgres' programs lie (Debian).
pub const PROGRAMS: &str = "/usr/lib/postgresql/17/bin";
/// Its Unix socket and Patroni's password file (`RuntimeDirectory=` of the unit).
pub const RUNTIME: &str = "/run/patroni";
/// Patroni's tree in ZooKeeper.
pub const NAMESPACE: &str = "/patroni/";

/// Patroni on a coordinator, which alone has the accounts; nothing elsewhere. It starts when there is a ZooKeeper, and
/// takes notice of everything while it runs.
pub fn desired(facts: Facts<'_>) -> Desired {
    let (Some(accounts), Some(keeper)) =
        (&facts.secrets.postgres, &facts.secrets.zookeeper.patroni)
    else {
        return Desired::default();
    };
    let owner = Owner::new("postgres", "postgres");
    let names = Names {
        authority: Some("authority.pem"),
        certificates: &["node.pem"],
        keys: &["node.key"],
    };
    let mut desired = tls::apart(&facts.secrets.identity, SECRETS, &owner, &names);
    let text = config(facts, accounts, keeper);
    let checked = File::secret(text, owner).checked_by(Checker::Patroni);
    desired.files.insert(file("patroni.yml"), checked);
    let wish = UnitWish::default()
        .reloads_on(format!("{SECRETS}/"))
        .needs(PERMIT)
        .limited(before_others());
    desired.units.insert(UNIT, wish);
    desired
}

/// `patroni.yml`, in JSON's notation, which YAML's includes: one writer, no quoting of our own.
fn config(facts: Facts<'_>, accounts: &secrets::Postgres, zookeeper: &Secret) -> String {
    let value = json!({
        "scope": facts.config.name,
        "namespace": NAMESPACE,
        "name": facts.node.name,
        "log": { "level": "INFO", "format": "%(levelname)s: %(message)s" },
        "restapi": rest(facts),
        "ctl": {
            "cacert": file("authority.pem"),
            "certfile": file("node.pem"),
            "keyfile": file("node.key"),
            "keyfile_password": edition(&facts.secrets.identity),
            "insecure": false,
        },
        "zookeeper": keeper(facts, zookeeper),
        "bootstrap": {
            "dcs": dynamic(&facts.config.settings.postgres),
            "initdb": [
                { "encoding": "UTF8" },
                { "locale": "C.UTF-8" },
                "data-checksums",
                { "auth-local": "peer" },
                { "auth-host": "scram-sha-256" },
            ],
        },
        "postgresql": postgres(facts, accounts),
        // The hardware watchdog is systemd's; Patroni's own lease is in ZooKeeper.
        "watchdog": { "mode": "off" },
    });
    format!("{HEADER}{value:#}\n")
}

/// The same configuration for its checker, which connects to every server of ZooKeeper without any time-out: with none
/// but a port that refuses at once. Whether the servers can be reached now is no part of whether it is right.
pub fn without_servers(text: &str) -> Option<String> {
    let mut value: Value = serde_json::from_str(text.strip_prefix(HEADER)?).ok()?;
    *value.pointer_mut("/zookeeper/hosts")? = json!([REFUSES]);
    Some(format!("{value:#}"))
}

/// Nothing listens there (RFC 6335: the port of the multiplexer of TCP, which nobody runs).
const REFUSES: &str = "127.0.0.1:1";

fn file(name: &str) -> String {
    format!("{SECRETS}/{name}")
}

/// Another text for another certificate or authority, in the place of a password for the key, which has none, so that
/// nobody asks for it.
///
/// Patroni's API reads its files again only if a setting of its own is another one. A new certificate under the same
/// name it sees only when nothing else has changed, a new authority never (4.0.7, `Patroni.reload_config`,
/// `RestApiServer.reload_local_certificate`).
fn edition(identity: &Identity) -> String {
    let mut hash = Context::new(&SHA256);
    hash.update(identity.authority.as_bytes());
    hash.update(identity.certificate.as_bytes());
    BASE64_STANDARD.encode(&hash.finish().as_ref()[..12])
}

fn rest(facts: Facts<'_>) -> Value {
    let listen = format!("{}:{}", bracketed(facts.own(NetworkName::Cluster)), ports::PATRONI);
    json!({
        "listen": listen,
        "connect_address": listen,
        "cafile": file("authority.pem"),
        "certfile": file("node.pem"),
        "keyfile": file("node.key"),
        "keyfile_password": edition(&facts.secrets.identity),
        "verify_client": "required",
    })
}

/// What Patroni keeps in ZooKeeper may only be touched by the coordinators, whose certificates are named.
fn keeper(facts: Facts<'_>, password: &Secret) -> Value {
    let hosts: Vec<String> = facts
        .coordinators(NetworkName::Cluster)
        .map(|(_, address)| format!("{}:{}", bracketed(address), ports::ZOOKEEPER))
        .collect();
    let owners: serde_json::Map<String, Value> = facts
        .config
        .coordinator_nodes()
        .map(|node| (facts.certificate_subject(node), json!(["ALL"])))
        .collect();
    json!({
        "hosts": hosts,
        "use_ssl": true,
        "verify": true,
        "cacert": file("authority.pem"),
        "cert": file("node.pem"),
        "key": file("node.key"),
        "auth_data": { "digest": format!("patroni:{}", password.reveal()) },
        "set_acls": owners,
    })
}

/// The part that all members share. Patroni keeps it in ZooKeeper: this founds it, and the agent mends it there when
/// the cluster file changes.
pub fn dynamic(postgres: &Postgres) -> Value {
    let patroni = &postgres.patroni;
    json!({
        "ttl": patroni.ttl.as_duration().as_secs(),
        "loop_wait": patroni.loop_wait.as_duration().as_secs(),
        "retry_timeout": patroni.retry_timeout.as_duration().as_secs(),
        "maximum_lag_on_failover": patroni.max_lag.bytes(),
        "synchronous_mode": patroni.synchronous,
        // Without any replica left, the leader goes on alone rather than stop.
        "synchronous_mode_strict": false,
        "postgresql": {
            "use_pg_rewind": true,
            "use_slots": true,
            // These must be the same on all members, so Patroni takes them from here alone.
            "parameters": {
                "max_connections": postgres.max_connections,
                "max_prepared_transactions": 0,
                "max_locks_per_transaction": 64,
                "max_worker_processes": 8,
                "wal_level": "replica",
                "wal_log_hints": "on",
                "max_wal_senders": 10,
                "max_replication_slots": 10,
                "hot_standby": "on",
            },
        },
    })
}

fn postgres(facts: Facts<'_>, accounts: &secrets::Postgres) -> Value {
    let settings = &facts.config.settings.postgres;
    let own = facts.own(NetworkName::Cluster);
    // A member that was cut off is given up as soon as Patroni gives ZooKeeper up: a commit waits for it no longer, nor
    // does a leader that must stop (its shutdown waits for every replica; Postgres' own 60 s outlast any lease).
    let silence = format!("{}s", settings.patroni.retry_timeout.as_duration().as_secs());
    json!({
        "listen": format!("{}:{}", bracketed(own), settings.port),
        "connect_address": format!("{}:{}", bracketed(own), settings.port),
        "data_dir": DATA,
        "bin_dir": PROGRAMS,
        "pgpass": format!("{RUNTIME}/pgpass"),
        "use_unix_socket": true,
        "use_unix_socket_repl": false,
        // What was only on a failed leader was never confirmed to anybody if commits wait for a replica: then it
        // may start again as a copy of the new one. Else a person decides.
        "remove_data_directory_on_rewind_failure": settings.patroni.synchronous,
        "remove_data_directory_on_diverged_timelines": settings.patroni.synchronous,
        "authentication": {
            "superuser": account(Account::Postgres, &accounts.superuser),
            "replication": account(Account::Replicator, &accounts.replication),
            "rewind": account(Account::Rewinder, &accounts.rewind),
        },
        "parameters": {
            "shared_buffers": format!("{}kB", settings.shared_buffers.bytes() >> 10),
            "unix_socket_directories": RUNTIME,
            "unix_socket_permissions": "0700",
            "password_encryption": "scram-sha-256",
            "wal_sender_timeout": silence,
            "wal_receiver_timeout": silence,
            "ssl": "on",
            "ssl_ca_file": file("authority.pem"),
            "ssl_cert_file": file("node.pem"),
            "ssl_key_file": file("node.key"),
            "ssl_min_protocol_version": "TLSv1.3",
            "logging_collector": "off",
            "log_destination": "stderr",
            "log_line_prefix": "%q%u@%d ",
        },
        "pg_hba": access(facts),
        "pg_ident": LOCAL,
    })
}

/// How to reach another member: its certificate must be the one of the address, and the password is never sent.
///
/// `channel_binding` stays at its default: Patroni uses the superuser's account by the Unix socket as well, where there
/// is no channel to bind to.
fn account(account: Account, password: &Secret) -> Value {
    json!({
        "username": account.name(),
        "password": password.reveal(),
        "sslmode": "verify-full",
        "sslrootcert": file("authority.pem"),
        "sslcert": file("node.pem"),
        "sslkey": file("node.key"),
    })
}

/// The passwords of Postgres' accounts.
pub(crate) fn accounts(accounts: &secrets::Postgres) -> [(Account, Secret); 3] {
    let secrets::Postgres { superuser, replication, rewind } = accounts;
    [
        (Account::Postgres, superuser.clone()),
        (Account::Replicator, replication.clone()),
        (Account::Rewinder, rewind.clone()),
    ]
}

/// Who of this node's users may be `postgres` by the Unix socket (`pg_ident.conf`): besides itself the agent, which
/// could read everything anyway.
const LOCAL: [&str; 2] = ["node postgres postgres", "node root postgres"];

/// `pg_hba.conf`: what is not listed is refused.
fn access(facts: Facts<'_>) -> Vec<String> {
    let mut lines = vec![
        "local all postgres peer map=node".to_owned(),
        "local replication postgres peer".to_owned(),
    ];
    let subnets =
        facts.config.networks.get(NetworkName::Cluster).into_iter().flat_map(|net| &net.subnets);
    for subnet in subnets.map(|subnet| subnet.net) {
        lines.push(format!(
            "hostssl replication replicator {subnet} scram-sha-256 clientcert=verify-ca"
        ));
        lines.push(format!("hostssl all all {subnet} scram-sha-256 clientcert=verify-ca"));
    }
    lines
}
