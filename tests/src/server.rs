//! A web server with a folder of releases, as any other: GET, HEAD and ranges. It counts what it sends, and can be told to
//! stop in the middle.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// How many bytes are sent at a time.
const PIECE: usize = 64 << 10;

/// A running server. It stops answering when this goes out of scope.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    folder: PathBuf,
    /// Bytes of bodies, since they were last counted from nothing.
    sent: u64,
    /// How many more may be sent; `None`: as many as are asked for.
    allowed: Option<u64>,
    /// How many answers wait until more may be sent.
    held: usize,
    /// It knows of no ranges.
    whole: bool,
    /// It answers nothing any more.
    silent: bool,
}

impl Server {
    /// Serves a folder at this address, at a port that is free, in the network of the calling thread.
    pub fn start(folder: &Path, address: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).context("cannot listen")?;
        let address = listener.local_addr()?;
        let state = State {
            folder: folder.to_owned(),
            sent: 0,
            allowed: None,
            held: 0,
            whole: false,
            silent: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let server = Self { address, shared: Arc::clone(&shared) };
        thread::spawn(move || shared.listen(&listener));
        Ok(server)
    }

    /// Where the folder is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves another folder from now on.
    pub fn serve(&self, folder: &Path) {
        folder.clone_into(&mut self.shared.lock().folder);
    }

    /// Gives all of a file from now on, whatever part of it is asked for.
    pub fn know_no_ranges(&self) {
        self.shared.lock().whole = true;
    }

    /// How many bytes were sent since this was last asked.
    pub fn take_sent(&self) -> u64 {
        std::mem::take(&mut self.shared.lock().sent)
    }

    /// Waits until so many bytes were sent, without anything else having been asked.
    pub fn wait_sent(&self, bytes: u64, patience: Duration) -> Result<()> {
        let state = self.wait(patience, |state| state.sent >= bytes);
        ensure!(
            state.sent >= bytes,
            "{} bytes of {bytes} were fetched in {patience:?}",
            state.sent
        );
        Ok(())
    }

    /// Sends so many bytes more, and then falls silent in the middle of a file; `None`: it goes on.
    pub fn allow(&self, more: Option<u64>) {
        self.shared.lock().allowed = more;
        self.shared.changed.notify_all();
    }

    /// Waits until it has fallen silent with somebody at the other end.
    pub fn wait_silent(&self, patience: Duration) -> Result<()> {
        let state = self.wait(patience, |state| state.held > 0);
        ensure!(state.held > 0, "{} bytes were fetched in {patience:?}", state.sent);
        Ok(())
    }

    /// Waits until this is so, for as long as there is patience.
    fn wait(&self, patience: Duration, is_so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, patience, |it| !is_so(it));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.lock().silent = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Takes connections until it is to be silent.
    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().map_while(Result::ok) {
            if self.lock().silent {
                return;
            }
            let shared = Arc::clone(self);
            // Who has hung up is gone.
            thread::spawn(move || shared.answer(&stream));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request after the other, until nobody asks any more.
    fn answer(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader)? {
            self.respond(stream, &request)?;
        }
        Ok(())
    }

    fn respond(&self, mut stream: &TcpStream, request: &Request) -> std::io::Result<()> {
        let (folder, whole) = {
            let state = self.lock();
            (state.folder.clone(), state.whole)
        };
        let asked = request.range.filter(|_| !whole);
        let file = request.file(&folder).and_then(|path| File::open(path).ok());
        let Some(mut file) = file.filter(|file| file.metadata().is_ok_and(|it| it.is_file()))
        else {
            return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        let size = file.metadata()?.len();
        let (from, to) = asked.unwrap_or((0, u64::MAX));
        let to = to.min(size.saturating_sub(1));
        if asked.is_some() && from > to {
            let head = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n";
            return write!(stream, "{head}Content-Range: bytes */{size}\r\n\r\n");
        }
        let length = if size == 0 { 0 } else { to + 1 - from };
        let (status, range) = match asked {
            Some(_) => {
                ("206 Partial Content", format!("Content-Range: bytes {from}-{to}/{size}\r\n"))
            }
            None => ("200 OK", String::new()),
        };
        let head = format!("HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\n{range}");
        write!(stream, "{head}Content-Length: {length}\r\n\r\n")?;
        if request.is_head {
            return Ok(());
        }
        file.seek(SeekFrom::Start(from))?;
        self.send(stream, &mut file, length)
    }

    fn send(&self, mut stream: &TcpStream, file: &mut File, length: u64) -> std::io::Result<()> {
        let (mut left, mut piece) = (length, vec![0; PIECE]);
        while left > 0 {
            let wanted = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let count = file.read(&mut piece[..wanted])?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.pass(count as u64)?;
            stream.write_all(&piece[..count])?;
            left -= count as u64;
        }
        Ok(())
    }

    /// Counts bytes, once they may be sent.
    fn pass(&self, count: u64) -> std::io::Result<()> {
        let mut state = self.lock();
        while state.allowed.is_some_and(|allowed| allowed < count) {
            state.held += 1;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.held -= 1;
            if state.silent {
                return Err(ErrorKind::ConnectionAborted.into());
            }
        }
        state.allowed = state.allowed.map(|allowed| allowed - count);
        state.sent += count;
        self.changed.notify_all();
        Ok(())
    }
}

/// What was asked for.
#[derive(Debug)]
struct Request {
    path: String,
    is_head: bool,
    /// The first byte and the last.
    range: Option<(u64, u64)>,
}

impl Request {
    /// Reads one. `None`: there is none any more.
    fn read(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Self>> {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut words = first.split_whitespace();
        let is_head = words.next() == Some("HEAD");
        let path = words.next().unwrap_or_default().to_owned();
        let mut range = None;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                return Ok(Some(Self { path, is_head, range }));
            }
            let header = line.split_once(':');
            let value = header.filter(|(name, _)| name.eq_ignore_ascii_case("range"));
            range = value.map_or(range, |(_, value)| parse_range(value.trim()));
        }
    }

    /// The file that the path leads to. `None`: it leads out of the folder.
    fn file(&self, folder: &Path) -> Option<PathBuf> {
        let path = decoded(self.path.split(['?', '#']).next()?.trim_start_matches('/'))?;
        let inside = Path::new(&path).components().all(|it| matches!(it, Component::Normal(_)));
        inside.then(|| folder.join(path))
    }
}

/// `bytes=1-2` and `bytes=1-`.
fn parse_range(value: &str) -> Option<(u64, u64)> {
    let (from, to) = value.strip_prefix("bytes=")?.split_once('-')?;
    let to = if to.is_empty() { u64::MAX } else { to.parse().ok()? };
    Some((from.parse().ok()?, to))
}

/// A path without `%2B` and the like.
fn decoded(path: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(behind.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &behind[2..];
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ask(server: &Server, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn files_are_served_whole_and_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a+b"), "0123456789").unwrap();
        let server = Server::start(folder.path(), Ipv4Addr::LOCALHOST.into()).unwrap();
        let whole = ask(&server, "GET /a%2Bb HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\n0123456789"));
        let two = "GET /a+b HTTP/1.1\r\nRange: bytes=2-3\r\n\r\nHEAD /a+b HTTP/1.1\r\n\r\n";
        let two = ask(&server, two);
        assert!(two.contains("Content-Range: bytes 2-3/10\r\n") && two.contains("\r\n\r\n23HTTP"));
        let end = ask(&server, "GET /a+b HTTP/1.1\r\nrange: bytes=8-\r\n\r\n");
        assert!(end.ends_with("\r\n\r\n89"), "{end}");
        server.wait_sent(14, Duration::from_secs(5)).unwrap();
        assert_eq!(server.take_sent(), 14);
        for (path, status) in [("/none", "404"), ("/../a+b", "404"), ("/", "404")] {
            let answer = ask(&server, &format!("GET {path} HTTP/1.1\r\n\r\n"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        }
        let far = ask(&server, "GET /a+b HTTP/1.1\r\nRange: bytes=10-\r\n\r\n");
        assert!(far.starts_with("HTTP/1.1 416"), "{far}");
    }
}
