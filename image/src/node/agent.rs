//! The agent of a node, asked by mutual TLS as an operator.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use trilith_core::operators::PORT;
use trilith_core::secrets::Secret;

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take to begin: disks that are asked for their health may take half a minute.
const ANSWER: Duration = Duration::from_mins(1);

/// A connection to a node's agent.
pub(crate) struct Agent {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

/// The node answers, and not with what it was asked for.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: StatusCode,
    pub(crate) why: String,
}

impl Refusal {
    /// Whether another node may answer all the same: this one cannot do its part just now.
    pub(crate) fn is_of_this_node(&self) -> bool {
        self.code == StatusCode::SERVICE_UNAVAILABLE
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it refuses ({}): {}", self.code, self.why)
    }
}

impl std::error::Error for Refusal {}

impl Agent {
    /// Connects to the first of the addresses that answers, and believes it only if its certificate names `host`.
    pub(crate) fn connect(host: &str, addresses: &[IpAddr], operator: &Secret) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tls = TlsConnector::from(tls(operator)?);
        let name = ServerName::try_from(host.to_owned())?;
        let sender = runtime.block_on(async {
            let stream = reach(addresses).await?;
            let talk = timeout(CONNECT, tls.connect(name, stream)).await;
            let stream = talk.context("it does not finish the TLS handshake")?;
            let stream = stream.map_err(refused)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            // Its end is seen by whoever reads an answer.
            tokio::spawn(connection);
            Ok::<_, anyhow::Error>(sender)
        })?;
        Ok(Self { runtime, sender, host: host.to_owned() })
    }

    /// The whole answer.
    pub(crate) fn get(&mut self, path: &str) -> Result<Bytes> {
        let answer = self.ask(path)?;
        let body = self.runtime.block_on(answer.into_body().collect());
        Ok(body.context("the answer breaks off")?.to_bytes())
    }

    /// The answer line by line, as it comes.
    pub(crate) fn lines(
        &mut self,
        path: &str,
        mut each: impl FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let mut body = self.ask(path)?.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = self.runtime.block_on(body.frame()) {
            let frame = frame.context("the answer breaks off")?;
            rest.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                each(String::from_utf8_lossy(&line).trim_end())?;
            }
        }
        Ok(())
    }

    /// Says something, in JSON, and gives the whole answer.
    pub(crate) fn say(&mut self, path: &str, what: &impl Serialize) -> Result<Bytes> {
        let body = Full::new(Bytes::from(serde_json::to_vec(what)?));
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        let answer = self.put(request.header(HOST, &self.host).body(body)?)?;
        let body = self.runtime.block_on(answer.into_body().collect());
        Ok(body.context("the answer breaks off")?.to_bytes())
    }

    fn ask(&mut self, path: &str) -> Result<Response<Incoming>> {
        let request = Request::get(path).header(HOST, &self.host).body(Full::default())?;
        self.put(request)
    }

    fn put(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let answer = self.sender.send_request(request);
        let answer = self.runtime.block_on(async { timeout(ANSWER, answer).await });
        let answer =
            answer.context("no answer")?.map_err(|error| refused(io::Error::other(error)))?;
        let code = answer.status();
        if code.is_success() {
            return Ok(answer);
        }
        let body = self.runtime.block_on(answer.into_body().collect())?.to_bytes();
        let why = String::from_utf8_lossy(&body).trim().to_owned();
        Err(Refusal { code, why }.into())
    }
}

/// A certificate that the node does not want is refused after the handshake, as far as this end sees it (RFC 8446).
fn refused(error: io::Error) -> anyhow::Error {
    anyhow!(error).context("the node and this certificate do not belong together, or it has ended")
}

/// Connects, so that a machine that is gone without a word is noticed by the kernel's probes.
async fn reach(addresses: &[IpAddr]) -> Result<TcpStream> {
    let mut last = anyhow!("the cluster file gives the node no address on upstream: --address");
    for ip in addresses {
        let address = SocketAddr::new(*ip, PORT);
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let probes = TcpKeepalive::new()
                    .with_time(Duration::from_secs(5))
                    .with_interval(Duration::from_secs(2));
                SockRef::from(&stream).set_tcp_keepalive(&probes.with_retries(3))?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = anyhow!(error).context(format!("cannot connect to {address}")),
            Err(_) => last = anyhow!("{address}: no answer"),
        }
    }
    Err(last)
}

/// From the text of `trilith cluster operator`: the key, the certificate for it, then those of the authority.
fn tls(operator: &Secret) -> Result<Arc<ClientConfig>> {
    let text = operator.reveal().as_bytes();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates.context("it is no PEM")?;
    let (own, authority) = certificates.split_first().context("there is no certificate in it")?;
    let mut roots = RootCertStore::empty();
    for certificate in authority {
        roots.add(certificate.clone())?;
    }
    let key = PrivateKeyDer::from_pem_slice(text).context("there is no key in it")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own.clone()], key)?;
    Ok(Arc::new(config))
}
