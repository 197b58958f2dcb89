//! Makes keys: RSA with X.509 certificates for firmware, ed25519 for metadata.

use anyhow::{Context as _, anyhow};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use pem_rfc7468::LineEnding;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, PKCS_RSA_SHA256,
    PublicKeyData, SignatureAlgorithm, SigningKey,
};
use time::{Duration, OffsetDateTime};
use trilith_core::secrets::Secret;

use crate::cluster::KeyPair;

/// Firmware looks at no dates, so a certificate may well live as long as the machines.
const LIFE: Duration = Duration::days(365 * 20);

/// A key for firmware, with a certificate that it has signed itself.
///
/// RSA with 2048 bits is what every firmware takes (UEFI 2.10, 32.5.3.1 asks for it; more is optional). What may be signed
/// with it is left open, as all tools for Secure Boot do.
pub(crate) fn firmware_key(
    owner: &str,
    role: &str,
    now: OffsetDateTime,
) -> anyhow::Result<KeyPair> {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).context("cannot make an RSA key")?;
    let public = pair.public_key().as_ref().to_vec();
    let key = Rsa { pair, public };
    let mut params = CertificateParams::default();
    params.not_before = now - Duration::days(1);
    params.not_after = now + LIFE;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{owner} {role}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).context("cannot make a certificate")?;
    let der: Pkcs8V1Der<'_> = key.pair.as_der().context("cannot write an RSA key")?;
    Ok(KeyPair {
        certificate: pem("CERTIFICATE", certificate.der())?,
        key: Secret::from(pem("PRIVATE KEY", der.as_ref())?),
    })
}

/// A key for a role of the metadata.
pub(crate) fn role_key() -> anyhow::Result<Secret> {
    let pair = Ed25519KeyPair::generate().context("cannot make an ed25519 key")?;
    let der: Pkcs8V1Der<'_> = pair.as_der().context("cannot write an ed25519 key")?;
    Ok(Secret::from(pem("PRIVATE KEY", der.as_ref())?))
}

fn pem(label: &str, der: &[u8]) -> anyhow::Result<String> {
    pem_rfc7468::encode_string(label, LineEnding::LF, der).map_err(|error| anyhow!("{error}"))
}

/// rcgen makes no RSA keys with ring, but takes what others have made.
struct Rsa {
    pair: RsaKeyPair,
    public: Vec<u8>,
}

impl PublicKeyData for Rsa {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

impl SigningKey for Rsa {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let random = SystemRandom::new();
        let signed = self.pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
        signed.map(|()| signature).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
