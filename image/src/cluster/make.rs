//! Makes secrets: all of a new cluster's, and what an older secrets file lacks for a newer cluster file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::anyhow;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pem_rfc7468::LineEnding;
use ring::rand::{SecureRandom as _, SystemRandom};
use ssh_key::private::Ed25519Keypair;
use time::{Duration, OffsetDateTime};
use trilith_core::config::{Config, Node};
use trilith_core::secrets::needs::{CertificateNames, ceph_cluster};
use trilith_core::secrets::{Ceph, Postgres, Secret, ZooKeeper};
use uuid::Uuid;

use super::authority::{self, Purpose};
use super::store::{Authority, ClusterSecrets, KeyPair, NodeOwn, VERSION};

/// The length of a made password: 32 letters and digits are 190 bits. No other characters, so that it means the
/// same in every configuration file and URL.
const PASSWORD: usize = 32;

/// The operator's subject. No node has it: a node's has the cluster's domain.
const OPERATOR: &str = "operator";

/// Makes all secrets of a cluster.
pub(crate) fn cluster(
    config: &Config,
    recipients: Vec<String>,
    now: OffsetDateTime,
) -> anyhow::Result<ClusterSecrets> {
    let name = config.name.as_str();
    let current = authority::new(name, now)?;
    let operator = operator(&current, now)?;
    let mut secrets = ClusterSecrets {
        version: VERSION,
        recipients,
        cluster: config.name.clone(),
        authority: Authority { current, next: None, last: None },
        operator,
        nodes: BTreeMap::new(),
        ceph: Ceph { fsid: uuid(), keys: BTreeMap::new(), libvirt_uuid: uuid() },
        zookeeper: ZooKeeper { agent: password()?, patroni: Some(password()?) },
        postgres: Postgres {
            superuser: password()?,
            replication: password()?,
            rewind: password()?,
        },
        bgp: password()?,
        ssh_admin: None,
        named: BTreeMap::new(),
    };
    complete(&mut secrets, config, now)?;
    Ok(secrets)
}

/// Makes what is missing for this cluster file, and renews certificates that are half over or no longer say what
/// they must. What nobody but a person can know, the secrets that the cluster file names, is not made.
pub(crate) fn complete(
    secrets: &mut ClusterSecrets,
    config: &Config,
    now: OffsetDateTime,
) -> anyhow::Result<()> {
    let signer = secrets.authority.current.clone();
    if !authority::serves(&secrets.operator, &signer, &CertificateNames::person(OPERATOR), now) {
        secrets.operator = operator(&signer, now)?;
    }
    for entity in ceph_cluster(config) {
        if let Entry::Vacant(key) = secrets.ceph.keys.entry(entity) {
            key.insert(ceph_key(now)?);
        }
    }
    for node in config.nodes.values() {
        let names = CertificateNames::of(config, node);
        match secrets.nodes.get_mut(&node.id) {
            None => drop(secrets.nodes.insert(node.id, own(config, node, &signer, now)?)),
            Some(own) if authority::serves(&own.identity, &signer, &names, now) => {}
            Some(own) => own.identity = identity(config, node, &signer, now)?,
        }
    }
    Ok(())
}

fn own(
    config: &Config,
    node: &Node,
    signer: &KeyPair,
    now: OffsetDateTime,
) -> anyhow::Result<NodeOwn> {
    let identity = identity(config, node, signer, now)?;
    Ok(NodeOwn { identity, ssh_host_key: ssh_key(node.name.as_str())?.0 })
}

/// A node's key and certificate.
pub(crate) fn identity(
    config: &Config,
    node: &Node,
    signer: &KeyPair,
    now: OffsetDateTime,
) -> anyhow::Result<KeyPair> {
    authority::issue(signer, &CertificateNames::of(config, node), &Purpose::Node, now)
}

/// The operator's key and certificate.
pub(crate) fn operator(signer: &KeyPair, now: OffsetDateTime) -> anyhow::Result<KeyPair> {
    person(signer, OPERATOR, authority::LIFE, now)
}

/// A person's key and certificate, under this name ([`trilith_core::operators::subject`]) and for so long.
pub(crate) fn person(
    signer: &KeyPair,
    subject: &str,
    life: Duration,
    now: OffsetDateTime,
) -> anyhow::Result<KeyPair> {
    authority::issue(signer, &CertificateNames::person(subject), &Purpose::Operator(life), now)
}

/// A new password.
pub(crate) fn password() -> anyhow::Result<Secret> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::new();
    while text.len() < PASSWORD {
        // Six bits each; the two values without a letter are thrown again, so that all are equally likely.
        let thrown = random::<PASSWORD>()?;
        let letters = thrown.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 63)));
        let missing = PASSWORD - text.len();
        text.extend(letters.take(missing).map(|letter| char::from(*letter)));
    }
    Ok(Secret::from(text))
}

/// A key as Ceph's tools make it: type 1 (AES-128), when it was made in seconds and nanoseconds, the length and
/// the key, little endian, in base64 (`CryptoKey::encode` in Ceph's src/auth/Crypto.cc).
pub(crate) fn ceph_key(now: OffsetDateTime) -> anyhow::Result<Secret> {
    let seconds = u32::try_from(now.unix_timestamp()).unwrap_or(u32::MAX);
    let key = random::<16>()?;
    let mut bytes = 1_u16.to_le_bytes().to_vec();
    bytes.extend(seconds.to_le_bytes());
    bytes.extend(now.nanosecond().to_le_bytes());
    bytes.extend(16_u16.to_le_bytes());
    bytes.extend(key);
    Ok(Secret::from(BASE64_STANDARD.encode(bytes)))
}

/// A new ed25519 key: the private key file of OpenSSH, and the public key's line.
pub(crate) fn ssh_key(comment: &str) -> anyhow::Result<(Secret, String)> {
    let pair = Ed25519Keypair::from_seed(&random::<32>()?);
    let mut key = ssh_key::PrivateKey::from(pair);
    key.set_comment(comment);
    let text = key.to_openssh(LineEnding::LF)?;
    Ok((Secret::from(text.to_string()), key.public_key().to_openssh()?))
}

/// A random number, for names that must differ.
pub(crate) fn number() -> anyhow::Result<u32> {
    Ok(u32::from_be_bytes(random()?))
}

fn uuid() -> String {
    Uuid::new_v4().to_string()
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow!("the system gives no randomness"))?;
    Ok(bytes)
}
