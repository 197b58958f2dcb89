//! Patroni's switchover, asked of the member on this node, which leads.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use trilith_core::names::NodeName;
use trilith_core::wave::settings::SECRETS;

use crate::http::{self, HttpError};

/// Patroni answers when the new leader is there.
const LIMIT: Duration = Duration::from_mins(1);

/// Why it was not switched over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatroniError {
    #[error("Patroni: {0}")]
    Http(#[from] HttpError),
    #[error("cannot read the node's certificate in {SECRETS}: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("the node's certificate: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the request is malformed: {0}")]
    Request(#[from] axum::http::Error),
    #[error("the settings do not say where Patroni is on this node")]
    NoAddress,
}

/// Has the leadership handed over.
pub(crate) async fn switch(
    address: Option<SocketAddr>,
    from: &NodeName,
    to: &NodeName,
) -> Result<(), PatroniError> {
    let address = address.ok_or(PatroniError::NoAddress)?;
    let tls = TlsConnector::from(tls(Path::new(SECRETS))?);
    let stream = TcpStream::connect(address).await.map_err(HttpError::Connect)?;
    let stream = tls.connect(ServerName::from(address.ip()), stream).await;
    let stream = stream.map_err(|error| HttpError::Connect(io::Error::other(error)))?;
    let body = json!({ "leader": from, "candidate": to }).to_string();
    let request = Request::post("/switchover").header("host", "cluster");
    let request = request.header("content-type", "application/json").body(Body::from(body))?;
    http::ask(stream, request, LIMIT).await?;
    Ok(())
}

fn tls(folder: &Path) -> Result<Arc<ClientConfig>, PatroniError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(folder.join("authority.pem"))? {
        roots.add(certificate?)?;
    }
    let own: Result<Vec<_>, _> = CertificateDer::pem_file_iter(folder.join("node.pem"))?.collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("node.key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(own?, key)?;
    Ok(Arc::new(config))
}
