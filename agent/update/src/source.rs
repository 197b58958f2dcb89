//! Where releases come from: a web server, asked for ranges over one connection each, or a folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, RANGE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use trilith_core::pauses::Pauses;
use trilith_core::update;

use crate::tls;

/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(30);
/// How often a connection may break before anything has come over it.
const TRIES: u32 = 6;
/// How much of a file is read at a time.
const PIECE: usize = 256 << 10;

/// What was given is not what was signed. It is no use to ask for it again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Bad(pub(crate) String);

/// There is no such file.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not there")]
pub(crate) struct NotThere(pub(crate) String);

/// The server knows no ranges (RFC 9110, 14: they are optional), so that only all of a file can be had.
#[derive(Debug, thiserror::Error)]
#[error("{0} gives no part of a file, only the whole")]
pub(crate) struct NoRanges(String);

/// A source.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    base: Base,
    fetched: Arc<AtomicU64>,
}

#[derive(Debug, Clone)]
enum Base {
    Folder(PathBuf),
    Server { host: String, port: u16, path: String, secure: bool },
}

impl Source {
    /// The one that is wished for.
    pub(crate) fn new(source: &update::Source) -> Result<Self> {
        let base = match source {
            update::Source::Folder(path) => Base::Folder(path.into()),
            update::Source::Url(url) => server(&url.to_string())?,
        };
        Ok(Self { base, fetched: Arc::default() })
    }

    /// How many bytes it has given so far.
    pub(crate) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// All of a short file.
    pub(crate) async fn short(&self, path: &str, most: u64) -> Result<Vec<u8>> {
        let mut body = self.open(path, None).await?;
        let mut content = Vec::new();
        while let Some(bytes) = body.next().await? {
            content.extend(bytes);
            ensure!(content.len() as u64 <= most, "{path} is longer than {most} bytes");
        }
        Ok(content)
    }

    /// A stretch of a file.
    pub(crate) fn stretch<'a>(&'a self, path: &'a str, from: u64, size: u64) -> Stretch<'a> {
        let pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(30));
        Stretch { source: self, path, at: from, end: from + size, body: None, pauses, tries: 0 }
    }

    /// The same, in memory.
    pub(crate) async fn range(&self, path: &str, from: u64, size: u64) -> Result<Vec<u8>> {
        let mut content = Vec::with_capacity(usize::try_from(size)?);
        let mut stretch = self.stretch(path, from, size);
        while let Some(bytes) = stretch.next().await? {
            content.extend(bytes);
        }
        Ok(content)
    }

    async fn open(&self, path: &str, range: Option<(u64, u64)>) -> Result<Body> {
        let kind = match &self.base {
            Base::Folder(folder) => Kind::File(file(&folder.join(path), range).await?),
            Base::Server { .. } => Kind::Http(self.get(path, range).await?.into_body()),
        };
        let left = range.map_or(u64::MAX, |(from, to)| to - from);
        Ok(Body { kind, left, fetched: Arc::clone(&self.fetched) })
    }

    async fn get(&self, path: &str, range: Option<(u64, u64)>) -> Result<Response<Incoming>> {
        let Base::Server { host, port, path: folder, secure } = &self.base else {
            bail!("it is no server")
        };
        let mut request = Request::builder().method(Method::GET).uri(format!("{folder}/{path}"));
        request = request.header(HOST, format!("{host}:{port}"));
        if let Some((from, to)) = range {
            request = request.header(RANGE, format!("bytes={from}-{}", to - 1));
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let asking = async {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            if !*secure {
                return send(stream, request).await;
            }
            let name = ServerName::try_from(host.clone())?;
            let connector = TlsConnector::from(tls::config()?);
            send(connector.connect(name, stream).await?, request).await
        };
        let response = in_time(asking).await.with_context(|| format!("cannot ask {host}"))?;
        let status = response.status();
        // Whoever does not know ranges begins at the beginning, which may be what is asked for.
        let from_the_beginning = range.is_none_or(|(from, _)| from == 0);
        match status {
            StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::OK if from_the_beginning => Ok(response),
            StatusCode::OK => Err(NoRanges(host.clone()).into()),
            StatusCode::NOT_FOUND => Err(NotThere(path.to_owned()).into()),
            _ => bail!("{host} answers {status} when asked for {path}"),
        }
    }
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer's body.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

fn server(url: &str) -> Result<Base> {
    let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let secure = uri.scheme_str() == Some("https");
    let host = uri.host().with_context(|| format!("{url} names no server"))?;
    // An IPv6 address has brackets in a URL alone.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    Ok(Base::Server { host, port, path: uri.path().trim_end_matches('/').to_owned(), secure })
}

async fn file(path: &Path, range: Option<(u64, u64)>) -> Result<File> {
    // A pipe on a medium would be waited for without end.
    if tokio::fs::metadata(path).await.is_ok_and(|about| !about.is_file()) {
        bail!("{} is no file", path.display());
    }
    let mut file = match File::open(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(NotThere(path.display().to_string()).into());
        }
        file => file.with_context(|| format!("cannot open {}", path.display()))?,
    };
    if let Some((from, _)) = range {
        file.seek(std::io::SeekFrom::Start(from)).await?;
    }
    Ok(file)
}

/// What a source gives.
struct Body {
    kind: Kind,
    left: u64,
    fetched: Arc<AtomicU64>,
}

enum Kind {
    File(File),
    Http(Incoming),
}

impl Body {
    /// The next bytes; `None`: that was all.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut bytes = match &mut self.kind {
            Kind::File(file) => {
                let mut piece = vec![0; PIECE];
                let length = file.read(&mut piece).await.context("cannot read the source")?;
                piece.truncate(length);
                Bytes::from(piece)
            }
            Kind::Http(body) => match in_time(async { Ok(body.frame().await) }).await? {
                Some(frame) => frame?.into_data().unwrap_or_default(),
                None => Bytes::new(),
            },
        };
        bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= bytes.len() as u64;
        self.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

/// A stretch of a file while it comes. It goes on where a connection broke.
pub(crate) struct Stretch<'a> {
    source: &'a Source,
    path: &'a str,
    at: u64,
    end: u64,
    body: Option<Body>,
    pauses: Pauses,
    tries: u32,
}

impl Stretch<'_> {
    /// The next bytes; `None`: that was all of it.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.at < self.end {
            match self.step().await {
                Ok(bytes) => {
                    self.at += bytes.len() as u64;
                    self.tries = 0;
                    self.pauses.reset();
                    return Ok(Some(bytes));
                }
                Err(error) => self.broke(error).await?,
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> Result<Bytes> {
        let body = match &mut self.body {
            Some(body) => body,
            none => none.insert(self.source.open(self.path, Some((self.at, self.end))).await?),
        };
        body.next().await?.ok_or_else(|| anyhow!("it ends too early"))
    }

    async fn broke(&mut self, error: anyhow::Error) -> Result<()> {
        self.body = None;
        self.tries += 1;
        if self.tries >= TRIES || error.is::<NotThere>() || error.is::<NoRanges>() {
            return Err(error.context(format!("{} broke off at byte {}", self.path, self.at)));
        }
        let pause = self.pauses.next_pause();
        eprintln!("{} broke off at byte {}, going on: {error:#}", self.path, self.at);
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// What comes within the longest silence.
async fn in_time<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(SILENCE, future).await.context("nothing comes any more")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_servers() {
        let of = |url: &str| match server(url).unwrap() {
            Base::Server { host, port, path, secure } => (host, port, path, secure),
            Base::Folder(_) => panic!("a folder"),
        };
        let expected = ("os.example.net".to_owned(), 443, "/trilith".to_owned(), true);
        assert_eq!(of("https://os.example.net/trilith/"), expected);
        assert_eq!(of("http://[fd00::1]:8080"), ("fd00::1".to_owned(), 8080, String::new(), false));
        assert!(server("/releases").is_err());
    }
}
