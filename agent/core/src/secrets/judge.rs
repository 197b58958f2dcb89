//! Whether a bundle's secrets are whole and fit together. What is told names the entry and never its content.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::certificate::{Certificate, CertificateError};
use super::needs::Needs;
use super::{Ceph, Identity, NodeSecrets, Postgres, Secret, ZooKeeper};
use crate::names::is_uuid;
use crate::status::Problem;

/// Longer is no password but a file in the wrong place.
const LONGEST: usize = 1024;

/// Everything that is wrong with the secrets of a node that needs `needs`; empty if nothing is.
pub fn judge(secrets: &NodeSecrets, needs: &Needs) -> Vec<Problem> {
    let NodeSecrets { identity, ceph, zookeeper, postgres, bgp, ssh_host_key, named } = secrets;
    let mut judge = Judge { problems: Vec::new() };
    judge.identity(identity, needs);
    judge.ceph(ceph, &needs.ceph);
    judge.zookeeper(zookeeper, needs.coordinator);
    judge.postgres(postgres.as_ref(), needs.coordinator);
    judge.password("bgp", bgp);
    judge.host_key(ssh_host_key);
    for name in &needs.named {
        let entry = format!("named.{name}");
        match named.get(name) {
            Some(secret) => judge.password(&entry, secret),
            None => judge.missing(&entry, "the cluster file names it"),
        }
    }
    judge.problems
}

struct Judge {
    problems: Vec<Problem>,
}

impl Judge {
    fn wrong(&mut self, entry: &str, reason: impl Into<String>) {
        self.problems.push(Problem { object: format!("secret {entry}"), reason: reason.into() });
    }

    fn missing(&mut self, entry: &str, why: &str) {
        let help = "make the bundle anew with `trilith cluster bundle`";
        self.wrong(entry, format!("is missing, and {why}: {help}"));
    }

    /// A line of text that can stand in a configuration file.
    fn password(&mut self, entry: &str, secret: &Secret) {
        let text = secret.reveal();
        if text.is_empty() {
            self.wrong(entry, "is empty");
        } else if text.len() > LONGEST || text.contains(char::is_control) {
            self.wrong(entry, format!("is not one line of at most {LONGEST} bytes"));
        }
    }

    fn identity(&mut self, identity: &Identity, needs: &Needs) {
        let Identity { authority, certificate, key } = identity;
        let authorities = self.readable("identity.authority", Certificate::read_all(authority));
        let own = self.readable("identity.certificate", Certificate::read(certificate));
        let (Some(authorities), Some(own)) = (authorities, own) else { return };
        if !authorities.iter().all(|authority| authority.authority) {
            self.wrong("identity.authority", "holds a certificate that is not an authority's");
        }
        if !authorities.iter().any(|authority| own.is_signed_by(authority)) {
            self.wrong("identity.certificate", "is not signed by the cluster's authority");
        }
        if !(own.server && own.client) {
            self.wrong("identity.certificate", "does not serve for both ends of a connection");
        }
        if own.names.common != needs.names.common {
            let reason =
                format!("is not this node's: its subject is not CN={}", needs.names.common);
            self.wrong("identity.certificate", reason);
        }
        let missing = needs.names.missing_from(&own.names);
        if !missing.is_empty() {
            let missing: Vec<String> = missing.into_iter().collect();
            let reason = format!("is not this node's: it lacks {}", missing.join(", "));
            self.wrong("identity.certificate", reason);
        }
        match own.belongs_to(key) {
            Ok(true) => {}
            Ok(false) => self.wrong("identity.key", "is not the key of the certificate"),
            Err(error) => self.wrong("identity.key", error.to_string()),
        }
    }

    fn readable<T>(&mut self, entry: &str, read: Result<T, CertificateError>) -> Option<T> {
        read.map_err(|error| self.wrong(entry, error.to_string())).ok()
    }

    fn ceph(&mut self, ceph: &Ceph, needed: &BTreeSet<String>) {
        let Ceph { fsid, keys, libvirt_uuid } = ceph;
        for (entry, uuid) in [("ceph.fsid", fsid), ("ceph.libvirt_uuid", libvirt_uuid)] {
            if !is_uuid(uuid) {
                self.wrong(entry, "is not a UUID in lower case");
            }
        }
        for entity in needed {
            let entry = format!("ceph.keys.{entity}");
            match keys.get(entity) {
                None => self.missing(&entry, "this node uses it"),
                Some(key) if is_ceph_key(key) => {}
                Some(_) => self.wrong(&entry, "is not a key of Ceph"),
            }
        }
    }

    fn zookeeper(&mut self, zookeeper: &ZooKeeper, coordinator: bool) {
        self.password("zookeeper.agent", &zookeeper.agent);
        match &zookeeper.patroni {
            Some(patroni) => self.password("zookeeper.patroni", patroni),
            None if coordinator => self.missing("zookeeper.patroni", "this node is a coordinator"),
            None => {}
        }
    }

    fn postgres(&mut self, postgres: Option<&Postgres>, coordinator: bool) {
        match postgres {
            Some(Postgres { superuser, replication, rewind }) => {
                self.password("postgres.superuser", superuser);
                self.password("postgres.replication", replication);
                self.password("postgres.rewind", rewind);
            }
            None if coordinator => self.missing("postgres", "this node is a coordinator"),
            None => {}
        }
    }

    fn host_key(&mut self, key: &Secret) {
        let read = ssh_key::PrivateKey::from_openssh(key.reveal());
        let good = |key: ssh_key::PrivateKey| {
            key.algorithm() == ssh_key::Algorithm::Ed25519 && !key.is_encrypted()
        };
        if !read.is_ok_and(good) {
            self.wrong("ssh_host_key", "is not an unencrypted ed25519 key of OpenSSH");
        }
    }
}

/// Type 1 (AES-128), two numbers of time, the length 16 and the key, in Ceph's own byte order (little endian):
/// `CryptoKey::encode` in Ceph's src/auth/Crypto.cc.
fn is_ceph_key(key: &Secret) -> bool {
    BASE64_STANDARD.decode(key.reveal()).is_ok_and(|bytes| {
        bytes.len() == 28 && bytes.starts_with(&[1, 0]) && bytes[10..12] == [16, 0]
    })
}
