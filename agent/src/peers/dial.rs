//! Connections to services of the cluster's nodes, by this node's certificate.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trilith_core::names::NodeId;
use trilith_core::peers::{Circle, Peer};
use trilith_core::update::peers::{Node, Nodes};

use super::Membership;
use super::tls::{self, IdentityError};

/// How long a connection may take to stand. A node on the same network takes milliseconds.
const LIMIT: Duration = Duration::from_secs(3);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("the cluster has no node {0}")]
    NoNode(NodeId),
    #[error("the cluster file gives it no address on the cluster network")]
    NoAddress,
    #[error("its name cannot be in a certificate")]
    Name(#[from] InvalidDnsNameError),
    #[error("{address}: {source}")]
    Connect { address: SocketAddr, source: io::Error },
    /// Within [`LIMIT`], or nobody has the address: which of the two it is differs from try to try.
    #[error("{address}: no answer")]
    Silent { address: SocketAddr },
    #[error("{}", tls::explain(.0))]
    Tls(io::Error),
}

/// Makes connections by mutual TLS. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dialer {
    circle: Arc<Circle>,
    tls: Arc<ClientConfig>,
}

impl Dialer {
    /// For one membership.
    pub(crate) fn new(membership: &Membership) -> Result<Self, IdentityError> {
        let tls = tls::client(&membership.identity)?;
        Ok(Self { circle: Arc::new(membership.circle.clone()), tls })
    }

    /// Everybody whom it can connect to, but for this node.
    pub(crate) fn nodes(&self) -> Nodes {
        let node = |peer: &Peer| Node { id: peer.id, name: peer.name.clone() };
        Nodes { me: self.circle.me.id, others: self.circle.others.values().map(node).collect() }
    }

    /// Connects to a port on the cluster network of a node, also of this one.
    pub(crate) async fn dial(
        &self,
        node: NodeId,
        port: u16,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        let peer = match self.circle.others.get(&node) {
            Some(peer) => peer,
            None if self.circle.me.id == node => &self.circle.me,
            None => return Err(DialError::NoNode(node)),
        };
        let name = ServerName::try_from(peer.host.clone())?;
        let (address, stream) = reach(peer, port).await?;
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let stream = timeout(LIMIT, handshake).await.map_err(|_| DialError::Silent { address })?;
        stream.map_err(DialError::Tls)
    }
}

/// Connects to the first of the node's addresses that answers.
async fn reach(peer: &Peer, port: u16) -> Result<(SocketAddr, TcpStream), DialError> {
    let mut last = DialError::NoAddress;
    for ip in &peer.addresses {
        let address = SocketAddr::new(*ip, port);
        last = match timeout(LIMIT, connect(address)).await {
            Ok(Ok(stream)) => return Ok((address, stream)),
            Ok(Err(source)) if source.kind() != io::ErrorKind::HostUnreachable => {
                DialError::Connect { address, source }
            }
            Ok(Err(_)) | Err(_) => DialError::Silent { address },
        };
    }
    Err(last)
}

/// Connects, so that a machine that is gone without a word is noticed by the kernel's probes.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    super::door::probe(&socket2::SockRef::from(&stream))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Resolves when the connection ends, never if there is none. Cancel-safe: nothing is ever sent over it.
pub(crate) async fn ends(stream: &mut Option<TlsStream<TcpStream>>) {
    let Some(stream) = stream else { return std::future::pending().await };
    let mut byte = [0];
    while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {}
}
