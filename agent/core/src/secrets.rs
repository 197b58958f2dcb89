//! The secrets that one node needs, as its bundle carries them. The secrets of the whole cluster stay with the
//! operator, in the secrets file.

pub mod certificate; // X.509 without a clock
mod judge; // whole, and fitting together
pub mod needs; // which secrets a node needs
pub mod redact; // texts without them
#[cfg(test)]
pub(crate) mod sample; // secrets for tests

pub use judge::judge;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::names::SecretName;
use needs::Needs;

/// A text that is never shown and is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the file or the connection that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Everything secret that one node gets. A part that the node has no use for is not there at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSecrets {
    /// Who the node is among nodes.
    pub identity: Identity,
    /// Ceph's keys.
    pub ceph: Ceph,
    /// ZooKeeper's accounts.
    pub zookeeper: ZooKeeper,
    /// Postgres' accounts: coordinators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
    /// The password of the BGP sessions inside the cluster (TCP MD5, RFC 2385).
    pub bgp: Secret,
    /// The node's SSH host key, an OpenSSH private key file (ed25519).
    pub ssh_host_key: Secret,
    /// The secrets that the cluster file names and this node uses, such as those of routers upstream.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<SecretName, Secret>,
}

impl NodeSecrets {
    /// What a node needs, with nothing in it.
    pub fn blank(needs: &Needs) -> Self {
        let blank = || Secret(String::new());
        Self {
            identity: Identity {
                authority: String::new(),
                certificate: String::new(),
                key: blank(),
            },
            ceph: Ceph {
                fsid: String::new(),
                keys: needs.ceph.iter().map(|entity| (entity.clone(), blank())).collect(),
                libvirt_uuid: String::new(),
            },
            zookeeper: ZooKeeper { agent: blank(), patroni: needs.coordinator.then(blank) },
            postgres: needs.coordinator.then(|| Postgres {
                superuser: blank(),
                replication: blank(),
                rewind: blank(),
            }),
            bgp: blank(),
            ssh_host_key: blank(),
            named: needs.named.iter().map(|name| (name.clone(), blank())).collect(),
        }
    }
}

/// An X.509 identity within the cluster, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The certificates of the cluster's authority; two while it is being replaced.
    pub authority: String,
    /// The node's certificate. Its subject alternative names are the node's name, with and without the
    /// cluster's domain, and all its core addresses; it serves for both ends of a connection.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: Secret,
}

/// Ceph's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceph {
    /// The cluster's identity, a UUID.
    pub fsid: String,
    /// The keys by entity, base64 as in a keyring. `mon.`, `client.admin` and every `mgr.NAME`: coordinators
    /// only; `client.bootstrap-osd`: nodes with disks for OSDs; `client.libvirt`, `client.trilith`: every node.
    pub keys: BTreeMap<String, Secret>,
    /// The UUID of libvirt's secret that holds the key of `client.libvirt`.
    pub libvirt_uuid: String,
}

/// ZooKeeper's part: passwords of digest accounts, which own what they make there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZooKeeper {
    /// The account `trilith` of the agents.
    pub agent: Secret,
    /// The account `patroni`: coordinators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patroni: Option<Secret>,
}

/// Postgres' part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The password of `postgres`.
    pub superuser: Secret,
    /// The password of `replicator`.
    pub replication: Secret,
    /// The password of `rewinder`, which rewinds a former leader (`pg_rewind(1)`).
    pub rewind: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::from("swordfish".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.reveal(), "swordfish");
    }
}
