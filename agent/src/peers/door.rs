//! A door: listens on addresses of this node by mutual TLS, and lets in whose certificate it wants.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};
use trilith_core::operators::Operator;

use super::tls;
use crate::reconcile::chain;
use crate::wake;

/// How long a client may take to show who it is.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long it may then be silent between requests.
const IDLE: Duration = Duration::from_mins(2);
/// The pause before an address is tried again that could not be listened on, or accepted from.
const AGAIN: Duration = Duration::from_secs(5);
/// Refusals that are remembered, so that each is logged once.
const REFUSALS: usize = 256;

/// Why somebody with a certificate of the cluster is not let in.
pub(super) type Refusal = &'static str;

/// Who has come in. Whatever answers finds it among the request's extensions.
#[derive(Debug, Clone)]
pub(crate) enum Guest {
    /// Another node.
    Node,
    /// A person.
    Operator(Operator),
}

/// Whether a verified certificate, shown from there, opens a door, and for whom.
pub(super) type Judge = dyn Fn(&CertificateDer<'_>, SocketAddr) -> Result<Guest, Refusal>;

/// Who may come in, and where.
pub(super) struct Door {
    /// What is behind it, for the log.
    pub(super) name: &'static str,
    pub(super) port: u16,
    /// Connections at a time on each address: strangers can hold up only each other, for the time of a handshake.
    pub(super) most: usize,
    pub(super) tls: Arc<ServerConfig>,
    pub(super) judge: Box<Judge>,
    pub(super) refused: RefCell<BTreeMap<IpAddr, String>>,
}

impl Door {
    /// Logs a refusal once for each address and reason.
    fn refuse(&self, from: SocketAddr, reason: &str) {
        let mut refused = self.refused.borrow_mut();
        let news = refused.get(&from.ip()).is_none_or(|before| before != reason);
        if refused.len() >= REFUSALS {
            refused.clear();
        }
        if news {
            refused.insert(from.ip(), reason.to_owned());
            warn!(from = %from.ip(), "{}: {} is refused: {reason}", self.name, from.ip());
        }
    }

    /// Lets one in whose certificate opens the door.
    async fn admit(self: Rc<Self>, stream: TcpStream, from: SocketAddr, routes: Router) {
        let handshake = TlsAcceptor::from(Arc::clone(&self.tls)).accept(stream);
        let stream = match timeout(HANDSHAKE, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.refuse(from, &tls::explain(&error)),
            Err(_) => return self.refuse(from, "it does not finish the TLS handshake"),
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let judged =
            certificate.map_or(Err("it shows no certificate"), |it| (self.judge)(it, from));
        let routes = match judged {
            Ok(guest) => {
                self.refused.borrow_mut().remove(&from.ip());
                routes.layer(Extension(guest))
            }
            Err(reason) => {
                self.refuse(from, reason);
                Router::new().fallback((StatusCode::FORBIDDEN, reason))
            }
        };
        let talk = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
        // A connection that breaks is news for its other end.
        let _ = talk.await;
    }

    /// Listens on one address until dropped.
    pub(super) async fn listen(self: Rc<Self>, ip: IpAddr, routes: Router) {
        let (name, port) = (self.name, self.port);
        loop {
            match bind(SocketAddr::new(ip, port)) {
                Ok(listener) => {
                    info!("{name}: listening on {ip}, port {port}");
                    return self.accept(&listener, &routes).await;
                }
                Err(error) => {
                    warn!("{name}: cannot listen on {ip}, port {port}: {}", chain(&error));
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Accepts until dropped. That one more cannot be accepted, as with too many open files, is no reason to let those
    /// go that are here.
    async fn accept(self: &Rc<Self>, listener: &TcpListener, routes: &Router) {
        let mut guests = JoinSet::new();
        let mut deaf = None;
        loop {
            // Cancel safety: the first two say of themselves that they are, and a moment stays one.
            tokio::select! {
                accepted = listener.accept(), if deaf.is_none() => match accepted {
                    Ok((stream, from)) if guests.len() < self.most => {
                        guests.spawn_local(Rc::clone(self).admit(stream, from, routes.clone()));
                    }
                    Ok((_, from)) => self.refuse(from, "too many connections"),
                    // The client was gone before it was accepted.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        warn!("{}: cannot accept: {}", self.name, chain(&error));
                        deaf = Some(Instant::now() + AGAIN);
                    }
                },
                Some(_) = guests.join_next() => {}
                () = wake::at(deaf), if deaf.is_some() => deaf = None,
            }
        }
    }
}

/// Binds also while the address is not there: it comes and goes with its link, the listener stays.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.set_reuse_address(true)?;
    // Accepted connections inherit it.
    probe(&SockRef::from(&socket))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

/// Lets the kernel notice within about 11 s that the other machine is gone, also while nothing is sent.
pub(super) fn probe(socket: &SockRef<'_>) -> io::Result<()> {
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(11)))
}
