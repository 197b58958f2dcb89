//! What the agent and the kernel say at one moment.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use trilith_core::gate::{Link, Now};
use trilith_core::status::NodeStatus;

/// Where the agent listens, unless told otherwise.
pub(crate) const SOCKET: &str = "/run/trilith/agent.sock";
/// An agent that takes longer than this for an answer hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer is a few KiB; more is not a status.
const LONGEST: usize = 16 << 20;

/// Where the kernel shows the links.
const LINKS: &str = "/sys/class/net";

/// Looks at all of it.
pub(crate) async fn look(socket: &Path, booted: &Path) -> Now {
    let (status, silent) = match status(socket).await {
        Ok(status) => (Some(status), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Now { status, silent, links: links(Path::new(LINKS)), booted: booted.exists() }
}

/// The agent's status.
///
/// # Errors
/// It is away, hangs, or answers something else.
pub(crate) async fn status(socket: &Path) -> Result<NodeStatus> {
    let Ok(answer) = timeout(PATIENCE, ask(socket)).await else {
        bail!("no answer within {} s", PATIENCE.as_secs());
    };
    serde_json::from_slice(&answer?).context("its answer is no status")
}

async fn ask(socket: &Path) -> Result<Bytes> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.with_context(|| format!("nobody is on {}", socket.display()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    // Ends with the answer; its own error comes out of the request as well.
    let carrier = tokio::spawn(connection);
    let request = Request::get("/status").header(HOST, "trilith").body(Empty::new())?;
    let answer = sender.send_request(request).await.context("it breaks off")?;
    ensure!(answer.status().is_success(), "it answers {}", answer.status());
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    carrier.abort();
    Ok(body.map_err(anyhow::Error::from_boxed).context("its answer breaks off")?.to_bytes())
}

/// The physical links; none where the kernel shows nothing.
pub(crate) fn links(folder: &Path) -> BTreeMap<String, Link> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let physical = |path: &Path| path.join("device").exists();
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let link = |path: std::path::PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        Some((name, carrier(&path)))
    };
    paths.filter(|path| physical(path)).filter_map(link).collect()
}

/// The kernel does not say of a link that is down whether it has carrier: reading fails.
fn carrier(link: &Path) -> Link {
    match fs::read_to_string(link.join("carrier")).as_deref().map(str::trim) {
        Ok("1") => Link::Carrier,
        Ok("0") => Link::NoCarrier,
        _ => Link::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn physical_links_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        for (name, device, carrier) in [
            ("eth0", true, Some("1\n")),
            ("eth1", true, Some("0\n")),
            ("eth2", true, None),
            ("lo", false, Some("1\n")),
        ] {
            let link = folder.path().join(name);
            fs::create_dir_all(if device { link.join("device") } else { link.clone() }).unwrap();
            if let Some(text) = carrier {
                fs::write(link.join("carrier"), text).unwrap();
            }
        }
        let expected = [
            ("eth0".to_owned(), Link::Carrier),
            ("eth1".to_owned(), Link::NoCarrier),
            ("eth2".to_owned(), Link::Down),
        ];
        assert_eq!(links(folder.path()), BTreeMap::from(expected));
        assert!(links(&folder.path().join("none")).is_empty());
    }
}
