//! Everything secret of a cluster, as it stands in the secrets file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trilith_core::config::{Config, Node};
use trilith_core::names::{ClusterName, NodeId, SecretName};
use trilith_core::secrets::needs::Needs;
use trilith_core::secrets::{Ceph, Identity, NodeSecrets, Postgres, Secret, ZooKeeper};

/// The one version of the format that this program reads and writes.
pub(crate) const VERSION: u32 = 1;

/// Everything secret of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterSecrets {
    pub(crate) version: u32,
    /// The age recipients who can read the file: it is written anew for the same ones. Empty: it is encrypted
    /// with a passphrase, and written anew with the one that opened it.
    pub(crate) recipients: Vec<String>,
    /// Whose secrets these are.
    pub(crate) cluster: ClusterName,
    pub(crate) authority: Authority,
    /// The operator's own identity towards the nodes.
    pub(crate) operator: KeyPair,
    pub(crate) nodes: BTreeMap<NodeId, NodeOwn>,
    /// With the keys of every entity.
    pub(crate) ceph: Ceph,
    pub(crate) zookeeper: ZooKeeper,
    pub(crate) postgres: Postgres,
    pub(crate) bgp: Secret,
    /// A key whose public half a cluster file of `trilith cluster init` lets in, an OpenSSH private key file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ssh_admin: Option<Secret>,
    /// What the cluster file names.
    pub(crate) named: BTreeMap<SecretName, Secret>,
}

/// A certificate and its key, both in PEM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyPair {
    pub(crate) certificate: String,
    pub(crate) key: Secret,
}

impl KeyPair {
    /// Key, certificate, and the authority's certificates to trust, in one text: what a person needs to talk to nodes.
    pub(crate) fn with_authority(&self, authority: &Authority) -> Secret {
        let Self { certificate, key } = self;
        Secret::from(format!("{}{certificate}{}", key.reveal(), authority.trusted()))
    }
}

/// Who signs certificates. It is replaced in three steps, with new bundles for all nodes after each: the next one
/// is trusted, then it signs, then the last one is no longer trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Authority {
    /// The one that signs.
    pub(crate) current: KeyPair,
    /// The one that will sign next; trusted already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<KeyPair>,
    /// The certificate of the one that signed before; trusted still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<String>,
}

/// What is one node's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeOwn {
    pub(crate) identity: KeyPair,
    pub(crate) ssh_host_key: Secret,
}

impl Authority {
    /// The certificates to trust, in PEM.
    pub(crate) fn trusted(&self) -> String {
        let next = self.next.as_ref().map(|next| next.certificate.as_str());
        let all = [Some(self.current.certificate.as_str()), next, self.last.as_deref()];
        all.into_iter().flatten().collect()
    }
}

impl ClusterSecrets {
    /// What one node gets. `None` if there is nothing of its own for it yet. A secret that the cluster file
    /// names and nobody has given is left out: [`ClusterSecrets::missing`] tells which.
    pub(crate) fn share(&self, config: &Config, node: &Node) -> Option<NodeSecrets> {
        let needs = Needs::of(config, node);
        let NodeOwn { identity, ssh_host_key } = self.nodes.get(&node.id)?.clone();
        let Ceph { fsid, keys, libvirt_uuid } = &self.ceph;
        let keys = keys.iter().filter(|(entity, _)| needs.ceph.contains(*entity));
        let named = self.named.iter().filter(|(name, _)| needs.named.contains(*name));
        Some(NodeSecrets {
            identity: Identity {
                authority: self.authority.trusted(),
                certificate: identity.certificate,
                key: identity.key,
            },
            ceph: Ceph {
                fsid: fsid.clone(),
                keys: keys.map(|(entity, key)| (entity.clone(), key.clone())).collect(),
                libvirt_uuid: libvirt_uuid.clone(),
            },
            zookeeper: ZooKeeper {
                agent: self.zookeeper.agent.clone(),
                patroni: self.zookeeper.patroni.clone().filter(|_| needs.coordinator),
            },
            postgres: needs.coordinator.then(|| self.postgres.clone()),
            bgp: self.bgp.clone(),
            ssh_host_key,
            named: named.map(|(name, secret)| (name.clone(), secret.clone())).collect(),
        })
    }

    /// The secrets that the cluster file names for this node and that nobody has given yet.
    pub(crate) fn missing(&self, config: &Config, node: &Node) -> Vec<SecretName> {
        let named = Needs::of(config, node).named;
        named.into_iter().filter(|name| !self.named.contains_key(name)).collect()
    }
}
