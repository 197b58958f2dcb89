//! A web server for files, with ranges, that counts what it gave and may be slow: as any that serves releases.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

/// How much is given at a time.
const PIECE: u64 = 64 << 10;

/// A server of one folder. It ends with the test.
#[derive(Debug)]
pub struct Web {
    url: String,
    gate: Arc<Gate>,
}

/// How much may be given, and how much was.
#[derive(Debug, Default)]
struct Gate {
    given: AtomicU64,
    /// So many bytes in all, and no more before it is more.
    allowed: Mutex<Option<u64>>,
    more: Condvar,
}

impl Web {
    /// Serves this folder.
    pub fn of(folder: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let url = format!("http://{}", listener.local_addr()?);
        let gate = Arc::new(Gate::default());
        let (folder, shared) = (folder.to_owned(), Arc::clone(&gate));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, gate) = (folder.clone(), Arc::clone(&shared));
                // Who asks may go away at any time.
                thread::spawn(move || drop(answer(&stream, &folder, &gate)));
            }
        });
        Ok(Self { url, gate })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many bytes of files it gave so far.
    pub fn given(&self) -> u64 {
        self.gate.given.load(Ordering::SeqCst)
    }

    /// Lets it give so many bytes more, and then be silent; `None`: as many as are asked for.
    pub fn allow(&self, more: Option<u64>) {
        let mut allowed = self.gate.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        *allowed = more.map(|more| self.given() + more);
        self.gate.more.notify_all();
    }
}

impl Gate {
    /// Waits until so much may be given.
    fn pass(&self, size: u64) {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        while allowed.is_some_and(|allowed| self.given.load(Ordering::SeqCst) + size > allowed) {
            allowed = self.more.wait(allowed).unwrap_or_else(PoisonError::into_inner);
        }
        self.given.fetch_add(size, Ordering::SeqCst);
    }
}

fn answer(mut stream: &TcpStream, folder: &Path, gate: &Gate) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().context("no request")??;
    let name = first.split(' ').nth(1).context("no path")?.trim_start_matches('/').to_owned();
    let mut range = None;
    for line in lines {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        range = range.or(line.strip_prefix("range: bytes=").map(str::to_owned));
    }
    let path: PathBuf = folder.join(name);
    let Ok(file) = File::open(&path) else {
        write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(());
    };
    let size = file.metadata()?.len();
    let (status, from, to) = match range.as_deref().and_then(|it| it.split_once('-')) {
        Some((from, to)) => ("206 Partial Content", from.parse()?, to.parse::<u64>()? + 1),
        None => ("200 OK", 0, size),
    };
    let to = to.min(size);
    let length = to.saturating_sub(from);
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    let mut at = from;
    while at < to {
        let mut bytes = vec![0; usize::try_from((to - at).min(PIECE))?];
        file.read_exact_at(&mut bytes, at)?;
        gate.pass(bytes.len() as u64);
        stream.write_all(&bytes)?;
        at += bytes.len() as u64;
    }
    Ok(())
}
