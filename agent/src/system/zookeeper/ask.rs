//! One question to one server: the four letters `srvr`, over TLS.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use trilith_core::names::NodeId;
use trilith_core::zookeeper::{CLIENT_PORT, Server, answer};

use crate::peers::{DialError, Dialer};

/// How long an answer may take. It is a few lines, mostly from this very machine.
const LIMIT: Duration = Duration::from_secs(3);
/// The answer is a few hundred bytes.
const LONGEST: u64 = 64 << 10;

/// Connects to a member's server.
pub(super) async fn connect(
    dialer: &Dialer,
    node: NodeId,
) -> Result<TlsStream<TcpStream>, DialError> {
    dialer.dial(node, CLIENT_PORT).await
}

/// What a member's server says of itself.
pub(super) async fn server(dialer: &Dialer, node: NodeId) -> Server {
    let mut stream = match connect(dialer, node).await {
        Ok(stream) => stream,
        // A server without quorum closes connections before the handshake.
        Err(DialError::Tls(error)) if is_end(&error) => return Server::Alone,
        Err(error) => return Server::Away(error.to_string()),
    };
    let mut text = String::new();
    let talk = async {
        stream.write_all(b"srvr").await?;
        stream.take(LONGEST).read_to_string(&mut text).await
    };
    match timeout(LIMIT, talk).await {
        // The answer ends with the connection, which the server does not close by the rules of TLS.
        Ok(Err(error)) if text.is_empty() && is_end(&error) => Server::Alone,
        Ok(Err(error)) if !is_end(&error) => Server::Away(format!("it does not answer: {error}")),
        Err(_) => Server::Away(format!("no answer within {} s", LIMIT.as_secs())),
        Ok(_) => answer::parse(&text),
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
