//! Real TLS over loopback, in a network namespace for each test.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use trilith_core::names::NodeName;
use trilith_core::peers::Peer;
use trilith_core::secrets::Secret;
use trilith_core::status::{BundleStatus, NodeIdentity, State};

use super::*;

mod netns;

fn id(number: u16) -> NodeId {
    NodeId::try_from(number).unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, der).unwrap()
}

/// An authority as `trilith cluster init` makes one.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn identity(&self, names: &[&str]) -> Identity {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity {
            authority: pem("CERTIFICATE", self.0.der()),
            certificate: pem("CERTIFICATE", params.signed_by(&key, &self.0).unwrap().der()),
            key: Secret::from(pem("PRIVATE KEY", &key.serialize_der())),
        }
    }

    /// As `trilith cluster operator` makes one.
    fn operator(&self, common: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    fn node(&self, number: u16) -> Identity {
        self.identity(&[&format!("node{number}"), &format!("node{number}.lab")])
    }
}

fn peer(number: u16) -> Peer {
    let name = format!("node{number}");
    Peer {
        id: id(number),
        host: format!("{name}.lab"),
        name: NodeName::try_from(name).unwrap(),
        addresses: vec![Ipv4Addr::new(127, 0, 0, u8::try_from(number).unwrap()).into()],
    }
}

fn membership(me: u16, identity: Identity) -> Membership {
    Membership { circle: circle(me), identity, redactor: Arc::default() }
}

/// Three coordinators.
fn circle(me: u16) -> Circle {
    let others = (1..=3).filter(|number| *number != me);
    let others: BTreeMap<_, _> = others.map(|number| (id(number), peer(number))).collect();
    let operators = peer(me).addresses;
    Circle { me: peer(me), followed: others.keys().copied().collect(), others, operators }
}
