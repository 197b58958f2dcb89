//! A question to a daemon of Ceph over its admin socket: a command in JSON that ends with a zero byte; the answer is
//! its length as four bytes, the highest first, and JSON (`src/common/admin_socket.cc`).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Where daemons have them (`admin socket`).
pub(super) const FOLDER: &str = "/run/ceph";

/// A daemon answers at once, unless its disk hangs.
const LIMIT: Duration = Duration::from_secs(5);
/// Answers are a few KiB.
const LONGEST: u32 = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("cannot ask on {}", path.display())]
    Talk { path: PathBuf, source: io::Error },
    #[error("no answer within {} s on {}", LIMIT.as_secs(), path.display())]
    Slow { path: PathBuf },
}

/// Asks a command without arguments.
pub(super) async fn ask(path: &Path, command: &str) -> Result<Vec<u8>, SocketError> {
    match timeout(LIMIT, talk(path, command)).await {
        Ok(answer) => answer.map_err(|source| SocketError::Talk { path: path.into(), source }),
        Err(_) => Err(SocketError::Slow { path: path.into() }),
    }
}

async fn talk(path: &Path, command: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path).await?;
    let question = serde_json::json!({ "prefix": command, "format": "json" });
    stream.write_all(format!("{question}\0").as_bytes()).await?;
    let length = stream.read_u32().await?;
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
    }
    let mut answer = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
