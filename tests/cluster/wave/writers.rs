//! Three programs that write all the time, beside the nodes, with the image's own clients: what a wave costs is what they see.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use trilith_tests::lab::{Container, Lab};

use crate::turns::{address, nodes};

const PROGRAM: &str = include_str!("writer.py");
const KINDS: [&str; 3] = ["zookeeper", "postgres", "rbd"];

/// They write as long as this is not ended.
pub(super) struct Writers {
    folder: TempDir,
    all: Vec<Writer>,
}

struct Writer {
    child: Child,
    says: BufReader<ChildStdout>,
}

/// What one has seen, in seconds.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    pub(super) kind: String,
    pub(super) written: u64,
    pub(super) errors: u64,
    pub(super) lost: Vec<u64>,
    /// Between two writes that came through.
    pub(super) worst: f64,
    pub(super) median: f64,
}

impl Writers {
    /// Starts them, and waits until each has written for the first time.
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        furnish(lab, folder.path())?;
        let mut writers = Self { folder, all: Vec::new() };
        for kind in KINDS {
            let mut command = lab.in_image("python3", writers.folder.path());
            command.args(["/mnt/writer.py", kind]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().context("cannot start a writer")?;
            let says = child.stdout.take().context("a writer has no stdout")?;
            let mut writer = Writer { child, says: BufReader::new(says) };
            ensure!(writer.line()?.trim() == "writes", "{kind} cannot be written to");
            writers.all.push(writer);
        }
        Ok(writers)
    }

    /// Has them read all that they have written, and say how it went.
    pub(super) fn end(mut self) -> Result<Vec<Report>> {
        let mut reports = Vec::new();
        for mut writer in self.all.drain(..) {
            drop(writer.child.stdin.take());
            let said = writer.line()?;
            println!("{}", said.trim_end());
            writer.child.wait()?;
            reports.push(serde_json::from_str(&said).context("a writer says something else")?);
        }
        Ok(reports)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for writer in &mut self.all {
            // A test that has failed leaves them behind.
            let _ended = writer.child.kill().and_then(|()| writer.child.wait());
        }
    }
}

impl Writer {
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        Ok(line)
    }
}

/// Program, addresses, certificate, passwords and keys.
fn furnish(lab: &Lab, folder: &Path) -> Result<()> {
    let (node, all) = (lab.node("n1")?, nodes(lab)?);
    fs::write(folder.join("writer.py"), PROGRAM)?;
    for (name, path) in [
        ("authority.pem", "/run/trilith/wave/authority.pem"),
        ("node.pem", "/run/trilith/wave/node.pem"),
        ("node.key", "/run/trilith/wave/node.key"),
        ("ceph.conf", "/etc/ceph/ceph.conf"),
        ("ceph.keyring", "/run/trilith/agent/ceph.client.admin.keyring"),
    ] {
        fs::write(folder.join(name), node.shell(&format!("cat {path}"))?)?;
    }
    // Postgres' library takes no key that others may read.
    let key = folder.join("node.key");
    fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let addresses: Vec<String> =
        all.iter().map(|node| Ok(address(node)?.to_string())).collect::<Result<_>>()?;
    let keepers: Vec<String> = addresses.iter().map(|it| format!("{it}:2281")).collect();
    let told = json!({
        "keepers": keepers.join(","),
        "account": account(&node)?,
        "postgres": { "hosts": addresses.join(","), "password": password(&node)? },
    });
    Ok(fs::write(folder.join("told.json"), told.to_string())?)
}

/// The agents' account in ZooKeeper, as the wave's program has it.
pub(super) fn account(node: &Container<'_>) -> Result<String> {
    let settings = node.shell("cat /run/trilith/wave/settings.json")?;
    let settings: serde_json::Value = serde_json::from_str(&settings)?;
    Ok(format!("trilith:{}", settings["password"].as_str().context("no password")?))
}

fn password(node: &Container<'_>) -> Result<String> {
    let file = node.shell("grep -v '^#' /run/trilith/patroni/patroni.yml")?;
    let file: serde_json::Value = serde_json::from_str(&file)?;
    let password = &file["postgresql"]["authentication"]["superuser"]["password"];
    Ok(password.as_str().context("no password")?.to_owned())
}
