//! X.509 certificates and their keys, as far as can be judged without a clock and without a connection.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

use super::Secret;
use super::needs::CertificateNames;
use crate::status::Problem;

/// Why a text is not what it should be. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// There is no such block in it.
    #[error("it is not PEM with a block {0:?}")]
    NotPem(&'static str),
    /// There is more than one block where one is expected.
    #[error("it holds more than one PEM block")]
    Several,
    /// The block is not a certificate.
    #[error("it is not an X.509 certificate")]
    NotCertificate,
    /// The block is not a key of the kind that this program makes.
    #[error("it is not a private key of the curve P-256 in PKCS #8")]
    NotKey,
}

/// What matters of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    /// Whom it is for.
    pub names: CertificateNames,
    /// Whether it may sign others.
    pub authority: bool,
    /// Whether it serves at the server's end of a connection.
    pub server: bool,
    /// Whether it serves at the client's end of a connection.
    pub client: bool,
    /// The first second in which it holds, since 1970-01-01 UTC.
    pub not_before: i64,
    /// The last second in which it holds, since 1970-01-01 UTC.
    pub not_after: i64,
    public_key: Vec<u8>,
}

impl Certificate {
    /// Reads every certificate of a text; at least one.
    pub fn read_all(pem: &str) -> Result<Vec<Self>, CertificateError> {
        blocks(pem, "CERTIFICATE")?.iter().map(|block| Self::from_der(&block.contents)).collect()
    }

    /// Reads the one certificate of a text.
    pub fn read(pem: &str) -> Result<Self, CertificateError> {
        let mut all = Self::read_all(pem)?;
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => Err(CertificateError::Several),
        }
    }

    /// Reads a certificate as a connection carries it (DER).
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let parsed = parse(der)?;
        let usage = parsed.extended_key_usage().map_err(|_| CertificateError::NotCertificate)?;
        let usage = usage.map(|usage| (usage.value.server_auth, usage.value.client_auth));
        let (server, client) = usage.unwrap_or((false, false));
        Ok(Self {
            der: der.to_vec(),
            names: names(&parsed)?,
            authority: parsed.is_ca(),
            server,
            client,
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// Whether `authority` signed it.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let (Ok(own), Ok(authority)) = (parse(&self.der), parse(&authority.der)) else {
            return false;
        };
        own.issuer() == authority.subject()
            && own.verify_signature(Some(authority.public_key())).is_ok()
    }

    /// Whether `key` is its private key.
    pub fn belongs_to(&self, key: &Secret) -> Result<bool, CertificateError> {
        Ok(pair(key)?.public_key().as_ref() == self.public_key)
    }

    /// Whether the key of this certificate made `signature` over `message`, as [`sign`] does.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.public_key);
        key.verify(message, signature).is_ok()
    }
}

/// Signs a message with the private key of a certificate (ECDSA with P-256 and SHA-256, RFC 5480).
pub fn sign(message: &[u8], key: &Secret) -> Result<Vec<u8>, CertificateError> {
    let signed = pair(key)?.sign(&SystemRandom::new(), message);
    Ok(signed.map_err(|_| CertificateError::NotKey)?.as_ref().to_vec())
}

fn pair(key: &Secret) -> Result<EcdsaKeyPair, CertificateError> {
    let blocks = blocks(key.reveal(), "PRIVATE KEY")?;
    let [block] = blocks.as_slice() else { return Err(CertificateError::Several) };
    let curve = &ECDSA_P256_SHA256_ASN1_SIGNING;
    EcdsaKeyPair::from_pkcs8(curve, &block.contents, &SystemRandom::new())
        .map_err(|_| CertificateError::NotKey)
}

/// How long before its end a person is told, in seconds: `trilith cluster bundle` renews certificates at half of their
/// five years, so that nobody has given this node a bundle for long.
const WARN: u64 = 60 * DAY;
const DAY: u64 = 86400;

/// What a person should know of the end of the node's certificate, if it is near. Both in seconds since 1970-01-01 UTC.
pub fn warning(ends: u64, now: u64) -> Option<Problem> {
    let left = ends.saturating_sub(now);
    let when = match left / DAY {
        _ if now > ends => "has ended".to_owned(),
        _ if left > WARN => return None,
        0 => "ends today".into(),
        1 => "ends in a day".into(),
        days => format!("ends in {days} days"),
    };
    let reason = format!(
        "{when}, and then no other node talks with this one: give it a new bundle (`trilith cluster bundle` renews it)"
    );
    Some(Problem { object: "certificate".into(), reason })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::NotCertificate),
    }
}

/// The blocks of a PEM text, all of one label.
fn blocks(text: &str, label: &'static str) -> Result<Vec<Pem>, CertificateError> {
    let wrong = CertificateError::NotPem(label);
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(text.as_bytes()).collect();
    let blocks = blocks.map_err(|_| wrong)?;
    if blocks.is_empty() || blocks.iter().any(|block| block.label != label) {
        return Err(wrong);
    }
    Ok(blocks)
}

fn names(parsed: &X509Certificate<'_>) -> Result<CertificateNames, CertificateError> {
    let alternatives =
        parsed.subject_alternative_name().map_err(|_| CertificateError::NotCertificate)?;
    let mut names = CertificateNames { common: common(parsed), ..CertificateNames::default() };
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => drop(names.dns.insert((*name).to_owned())),
            GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
            _ => {}
        }
    }
    Ok(names)
}

/// The subject if it is a common name and nothing else; else empty.
fn common(parsed: &X509Certificate<'_>) -> String {
    let subject = parsed.subject();
    let alone = subject.iter_attributes().count() == 1;
    let name = subject.iter_common_name().next().filter(|_| alone);
    name.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

impl CertificateNames {
    /// The names and addresses of `self` that are not among those of `others`, as text.
    pub(super) fn missing_from(&self, others: &Self) -> BTreeSet<String> {
        let dns = self.dns.difference(&others.dns).cloned();
        dns.chain(self.addresses.difference(&others.addresses).map(IpAddr::to_string)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_end_is_told() {
        let ends = 2_000_000_000;
        let said = |now: u64| warning(ends, now).map(|warning| warning.reason);
        assert_eq!(said(0), None);
        assert_eq!(said(ends - 60 * DAY - 1), None);
        for (now, when) in [
            (ends - 60 * DAY, "ends in 60 days"),
            (ends - DAY, "ends in a day"),
            (ends - 1, "ends today"),
            (ends, "ends today"),
            (ends + 1, "has ended"),
        ] {
            assert!(said(now).unwrap().starts_with(when), "{when}");
        }
    }
}
