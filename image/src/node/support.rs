//! `trilith node N support-bundle`: all that helps somebody else to find a fault, in one file.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use trilith_core::diagnosis::PARTS;
use trilith_core::diagnosis::disks::{self, Disk};
use trilith_core::diagnosis::net::Net;

use super::agent::Agent;
use crate::cluster::Cluster;
use crate::vault;

/// zstd's own choice.
const LEVEL: i32 = 3;

/// Files below one folder.
struct Archive {
    folder: String,
    tar: tar::Builder<zstd::Encoder<'static, Vec<u8>>>,
    /// In seconds since 1970-01-01 UTC.
    now: u64,
}

impl Archive {
    fn add(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(content.len())?);
        header.set_mode(0o600);
        header.set_mtime(self.now);
        let path = Path::new(&self.folder).join(name);
        self.tar.append_data(&mut header, path, content).context("cannot add to the archive")
    }
}

/// Asks for everything, and writes it to a file: the cluster file as the operator has it, and what the node says. The
/// node takes its secrets out; the cluster file has none.
pub(super) fn write(
    agent: &mut Agent,
    cluster: &Cluster,
    node: &str,
    output: Option<&Path>,
) -> Result<PathBuf> {
    let now = SystemTime::now();
    let stamp = humantime::format_rfc3339_seconds(now).to_string().replace([':', '-'], "");
    let folder = format!("{node}-{stamp}");
    let tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), LEVEL)?);
    let now = now.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut archive = Archive { folder, tar, now };
    archive.add("cluster.yaml", cluster.text.as_bytes())?;
    archive.add("status.json", &agent.get("/v1/status")?)?;
    let net = agent.get("/v1/net")?;
    archive.add("net.txt", text(&serde_json::from_slice::<Net>(&net)?.lines()).as_bytes())?;
    archive.add("net.json", &net)?;
    let all = agent.get("/v1/disks")?;
    let list: Vec<Disk> = serde_json::from_slice(&all)?;
    archive.add("disks.txt", text(&disks::lines(&list)).as_bytes())?;
    archive.add("disks.json", &all)?;
    let parts: Vec<String> = serde_json::from_slice(&agent.get(PARTS)?)?;
    for part in parts {
        let content = agent.get(&format!("{PARTS}/{part}"))?;
        archive.add(&part, &content)?;
    }
    let path = output.map_or_else(|| format!("{}.tar.zst", archive.folder).into(), Path::to_owned);
    let packed = archive.tar.into_inner()?.finish()?;
    vault::write_private(&path, &packed)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn text(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}
