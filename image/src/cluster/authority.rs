//! Certificates: the cluster's authority, the nodes' and the operator's.

use anyhow::{Context as _, anyhow};
use pem_rfc7468::LineEnding;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};
use trilith_core::secrets::Secret;
use trilith_core::secrets::certificate::Certificate;
use trilith_core::secrets::needs::CertificateNames;

use super::store::KeyPair;

/// An authority is replaced by hand and in three steps, so it lives long.
const AUTHORITY_LIFE: Duration = Duration::days(365 * 20);
/// What it signs is made anew with any bundle once half of this is over. Long, because a node that nobody gives a
/// new bundle must not drop out of its cluster over it.
pub(crate) const LIFE: Duration = Duration::days(365 * 5);
/// Certificates hold from a day before they are made: a server whose clock was set to local time, or is a little
/// slow, must get into the cluster to learn the right time.
const BACKDATED: Duration = Duration::days(1);

/// What a certificate is for.
pub(crate) enum Purpose {
    /// A node: both ends of a connection.
    Node,
    /// A person: the client's end alone, for so long.
    Operator(Duration),
}

/// Makes a new authority. It may sign no other authority.
///
/// It has no name constraints: nodes are also reached by their bare names and by addresses, so that the list of
/// what is permitted would change with every new node and subnet, and each time with it the authority on all.
pub(crate) fn new(cluster: &str, now: OffsetDateTime) -> anyhow::Result<KeyPair> {
    let mut params = params(now, AUTHORITY_LIFE);
    // A number in the name tells the two apart that are trusted while one replaces the other.
    let number = super::make::number()?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, cluster);
    params.distinguished_name.push(DnType::CommonName, format!("authority {number:08x}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = rcgen::KeyPair::generate().context("cannot make the authority's key")?;
    let certificate = params.self_signed(&key).context("cannot make the authority")?;
    pair(certificate.der(), &key)
}

/// Makes a key and a certificate for it.
pub(crate) fn issue(
    authority: &KeyPair,
    names: &CertificateNames,
    purpose: &Purpose,
    now: OffsetDateTime,
) -> anyhow::Result<KeyPair> {
    let life = match purpose {
        Purpose::Node => LIFE,
        Purpose::Operator(life) => *life,
    };
    let mut params = params(now, life);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, names.common.as_str());
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match purpose {
        Purpose::Node => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        Purpose::Operator(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    let dns = names.dns.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
    let addresses = names.addresses.iter().map(|address| Ok(SanType::IpAddress(*address)));
    let names: Result<Vec<SanType>, rcgen::Error> = dns.chain(addresses).collect();
    params.subject_alt_names = names.context("a name cannot stand in a certificate")?;
    let key = rcgen::KeyPair::generate().context("cannot make a key")?;
    let certificate =
        params.signed_by(&key, &issuer(authority)?).context("cannot make a certificate")?;
    pair(certificate.der(), &key)
}

/// Whether a certificate still serves: signed by `authority`, with just these names, not past half of its life.
pub(crate) fn serves(
    pair: &KeyPair,
    authority: &KeyPair,
    names: &CertificateNames,
    now: OffsetDateTime,
) -> bool {
    let read = (Certificate::read(&pair.certificate), Certificate::read(&authority.certificate));
    let (Ok(own), Ok(authority)) = read else { return false };
    let half = own.not_before.midpoint(own.not_after);
    own.names == *names && now.unix_timestamp() < half && own.is_signed_by(&authority)
}

fn params(now: OffsetDateTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    params.not_after = now + life;
    params
}

fn issuer(authority: &KeyPair) -> anyhow::Result<Issuer<'static, rcgen::KeyPair>> {
    let key = rcgen::KeyPair::try_from(der(authority.key.reveal())?)
        .context("the authority's key cannot be read")?;
    let certificate = der(&authority.certificate)?;
    Issuer::from_ca_cert_der(&certificate.into(), key)
        .context("the authority's certificate cannot be read")
}

fn der(pem: &str) -> anyhow::Result<Vec<u8>> {
    let (_, der) = pem_rfc7468::decode_vec(pem.as_bytes()).map_err(|_| anyhow!("it is not PEM"))?;
    Ok(der)
}

fn pair(certificate: &[u8], key: &rcgen::KeyPair) -> anyhow::Result<KeyPair> {
    let pem = |label, der| {
        pem_rfc7468::encode_string(label, LineEnding::LF, der).map_err(|error| anyhow!("{error}"))
    };
    Ok(KeyPair {
        certificate: pem("CERTIFICATE", certificate)?,
        key: Secret::from(pem("PRIVATE KEY", key.serialized_der())?),
    })
}
