//! Secrets for tests: everything that a node needs, and nothing else.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pem_rfc7468::LineEnding;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType,
};

use super::needs::{CertificateNames, Needs};
use super::{Ceph, Identity, NodeSecrets, Postgres, Secret, ZooKeeper};
use crate::bundle::{self, Bundle, BundleError};
use crate::config::Config;
use crate::names::NodeId;

/// The authority of all samples.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("sample"));

/// The bundle of a node with these secrets, signed by the samples' authority.
pub(crate) fn bundle(
    node: NodeId,
    cluster: &str,
    secrets: &NodeSecrets,
) -> Result<String, BundleError> {
    Bundle::write(node, cluster, secrets, &AUTHORITY.key())
}

/// A bundle whose text was changed, signed anew by the samples' authority.
pub(crate) fn sign(text: &str) -> String {
    let body = text.split_once('\n').filter(|(line, _)| line.starts_with("# signature"));
    bundle::sign(body.map_or(text, |(_, body)| body), &AUTHORITY.key()).expect("a signature")
}

/// The secrets of a node: the same at each call but for the `identity`, which is made anew.
pub(crate) fn secrets(config: &Config, id: NodeId) -> NodeSecrets {
    let needs = Needs::of(config, config.node(id).expect("the node"));
    let password = |name: &str| Secret::from(format!("secret-of-{name}"));
    let key = |entity: &String| (entity.clone(), ceph_key(entity));
    NodeSecrets {
        identity: AUTHORITY.issue(&needs.names),
        ceph: Ceph {
            fsid: "5f5be4a3-1f1c-4c9b-8a53-0c7e7e9a4b11".into(),
            keys: needs.ceph.iter().map(key).collect(),
            libvirt_uuid: "0d0d7e3e-6b0e-4d7b-9b43-8c2e54f8a9c2".into(),
        },
        zookeeper: ZooKeeper {
            agent: password("zookeeper-agent"),
            patroni: needs.coordinator.then(|| password("zookeeper-patroni")),
        },
        postgres: needs.coordinator.then(|| Postgres {
            superuser: password("postgres-superuser"),
            replication: password("postgres-replication"),
            rewind: password("postgres-rewind"),
        }),
        bgp: password("bgp"),
        ssh_host_key: host_key(),
        named: needs
            .named
            .iter()
            .map(|name| (name.clone(), password(name.as_str())))
            .collect::<BTreeMap<_, _>>(),
    }
}

fn ceph_key(entity: &str) -> Secret {
    let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0];
    bytes.extend(entity.bytes().cycle().take(16));
    Secret::from(BASE64_STANDARD.encode(bytes))
}

fn host_key() -> Secret {
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
    let text = ssh_key::PrivateKey::from(pair).to_openssh(LineEnding::LF);
    Secret::from(text.expect("a key of fixed bytes").to_string())
}

/// A throw-away authority.
pub(crate) struct Authority {
    pub(crate) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let certificate = pem("CERTIFICATE", certificate.der());
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Its private key.
    pub(crate) fn key(&self) -> Secret {
        Secret::from(pem("PRIVATE KEY", self.issuer.key().serialized_der()))
    }

    /// An identity with these names.
    pub(crate) fn issue(&self, names: &CertificateNames) -> Identity {
        let mut params = CertificateParams::default();
        let dns = names
            .dns
            .iter()
            .map(|name| SanType::DnsName(name.as_str().try_into().expect("a name")));
        params.subject_alt_names =
            dns.chain(names.addresses.iter().map(|address| SanType::IpAddress(*address))).collect();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, names.common.as_str());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            authority: self.certificate.clone(),
            certificate: pem("CERTIFICATE", certificate.der()),
            key: Secret::from(pem("PRIVATE KEY", key.serialized_der())),
        }
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    pem_rfc7468::encode_string(label, LineEnding::LF, der).expect("PEM")
}
