//! Mutual TLS with the cluster's authority: both ends show a certificate of it, and the name in it is that of a
//! node of this cluster.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig};
use trilith_core::names::NodeId;
use trilith_core::peers::Circle;
use trilith_core::secrets::Identity;

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("it is no PEM")]
    Pem(#[from] pem::Error),
    #[error("certificate and key do not work together")]
    Tls(#[from] rustls::Error),
    #[error("the authority's certificates cannot be used")]
    Authority(#[from] VerifierBuilderError),
}

/// What both ends need.
struct Parts {
    provider: Arc<CryptoProvider>,
    authority: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Parts {
    fn of(identity: &Identity) -> Result<Self, IdentityError> {
        let mut authority = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(identity.authority.as_bytes()) {
            authority.add(certificate?)?;
        }
        let certificates = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
        Ok(Self {
            provider: Arc::new(ring::default_provider()),
            authority: Arc::new(authority),
            certificates: certificates.collect::<Result<_, _>>()?,
            key: PrivateKeyDer::from_pem_slice(identity.key.reveal().as_bytes())?,
        })
    }
}

/// The server's end. Sessions are not resumed: connections are few and last.
pub(crate) fn server(identity: &Identity) -> Result<Arc<ServerConfig>, IdentityError> {
    let Parts { provider, authority, certificates, key } = Parts::of(identity)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(authority, Arc::clone(&provider)).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The client's end.
pub(crate) fn client(identity: &Identity) -> Result<Arc<ClientConfig>, IdentityError> {
    let Parts { provider, authority, certificates, key } = Parts::of(identity)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(authority)
        .with_client_auth_cert(certificates, key)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Which other node of the cluster a certificate names. It was verified before.
pub(crate) fn who(certificate: &CertificateDer<'_>, circle: &Circle) -> Option<NodeId> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let named = |host: &str| {
        let name = ServerName::try_from(host.to_owned());
        name.is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    };
    circle.others.values().find(|peer| named(&peer.host)).map(|peer| peer.id)
}

/// What a failed connection means, for people: what the TLS library says, in words that tell which end refused.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return reason(tls);
        }
        // An `io::Error` hides what it carries: its source is that one's source.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    crate::reconcile::chain(error).to_string()
}

fn reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".into(),
        rustls::Error::NoCertificatesPresented => "it shows no certificate".into(),
        // The signature is bad if the other authority has the same name.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "its certificate is not of this cluster's authority".into(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is of another node".into(),
        rustls::Error::InvalidCertificate(error) => format!("its certificate is bad: {error}"),
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError),
        ) => format!("it refuses this node's certificate ({alert:?})"),
        other => other.to_string(),
    }
}
