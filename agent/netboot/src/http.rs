//! Requests to a netboot server: plain HTTP, each on its own connection, none of which waits for ever.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use trilith_core::netboot::split_url;

/// How long nothing may come. A server keeps one who asks for a bundle waiting for 20 s.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// What is no image is short.
const LONGEST: usize = 4 << 20;

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// As a person knows it.
    pub(crate) url: String,
    address: SocketAddr,
    folder: String,
}

impl Source {
    /// `None` if it is not such a URL.
    pub(crate) fn new(url: &str) -> Option<Self> {
        let (address, folder) = split_url(url)?;
        Some(Self { url: url.trim().to_owned(), address, folder })
    }

    /// A file, from byte `from` on.
    pub(crate) async fn get(&self, name: &str, from: u64) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(Method::GET);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        self.send(name, request, Bytes::new()).await
    }

    /// All of a short answer.
    pub(crate) async fn short(&self, name: &str) -> Result<Bytes> {
        let (status, body) = whole(self.get(name, 0).await?).await?;
        if status != StatusCode::OK {
            bail!("{}{name}: {status}", self.url);
        }
        Ok(body)
    }

    /// Sends JSON, and gives the status and all of the short answer.
    pub(crate) async fn post(&self, name: &str, body: &Value) -> Result<(StatusCode, Bytes)> {
        let request = Request::builder().method(Method::POST);
        let request = request.header(CONTENT_TYPE, "application/json");
        whole(self.send(name, request, body.to_string().into()).await?).await
    }

    async fn send(
        &self,
        name: &str,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let request = request.uri(format!("{}{name}", self.folder));
        let request = request.header(HOST, self.address.to_string()).body(Full::new(body))?;
        let asking = async {
            let stream = TcpStream::connect(self.address).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            // It ends with the answer's body.
            tokio::spawn(connection);
            anyhow::Ok(sender.send_request(request).await?)
        };
        in_time(asking).await.with_context(|| format!("{}{name}", self.url))
    }
}

/// What comes within the longest silence.
pub(crate) async fn in_time<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(SILENCE, future).await.context("nothing comes any more")?
}

async fn whole(response: Response<Incoming>) -> Result<(StatusCode, Bytes)> {
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST).collect();
    let body = in_time(async { body.await.map_err(|error| anyhow::anyhow!(error)) }).await?;
    Ok((status, body.to_bytes()))
}
