//! Clients of a cluster in the lab, beside its nodes and with the image's own libraries: what they see is what the cluster's
//! users see. Each is a program that says in JSON, a line each, what it has seen.

pub mod watchers; // who serves, each second
pub mod writers; // what writes all the time

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::lab::{Container, Lab};
use crate::quorums::{address, nodes};

/// A client that runs, and what it says. It ends with this value.
#[derive(Debug)]
struct Client<T> {
    child: Child,
    says: Receiver<Result<T>>,
}

impl<T: DeserializeOwned + Send + 'static> Client<T> {
    /// Starts a program that lies in the folder: `/mnt/NAME`.
    fn start(lab: &Lab, folder: &Path, words: &[&str]) -> Result<Self> {
        let mut command = lab.in_image("python3", folder);
        // Ctrl-C is for the program that it belongs to, with which it ends.
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("cannot start a client")?;
        let stdout = child.stdout.take().context("a client has no stdout")?;
        let (sender, says) = channel();
        thread::spawn(move || listen(stdout, &sender));
        Ok(Self { child, says })
    }

    /// What it says next.
    fn next(&self, patience: Duration) -> Result<T> {
        self.says.recv_timeout(patience).context("a client says nothing more")?
    }

    /// What it has said since it was asked last.
    fn news(&self) -> Result<Vec<T>> {
        let mut news = Vec::new();
        loop {
            match self.says.try_recv() {
                Ok(said) => news.push(said?),
                Err(TryRecvError::Empty) => return Ok(news),
                Err(TryRecvError::Disconnected) => bail!("a client has ended by itself"),
            }
        }
    }

    /// Tells it to come to its end.
    fn close(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl<T> Drop for Client<T> {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Until the client ends, or nobody wants to know any more.
fn listen<T: DeserializeOwned>(stdout: ChildStdout, sender: &Sender<Result<T>>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let said = serde_json::from_str(&line).with_context(|| format!("a client says: {line}"));
        if sender.send(said).is_err() {
            return;
        }
    }
}

/// Lays addresses, certificate, passwords and keys into a client's folder.
fn furnish(lab: &Lab, folder: &Path) -> Result<()> {
    let all = nodes(lab)?;
    let node = all.first().context("no coordinator")?;
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
    fs::set_permissions(folder.join("node.key"), fs::Permissions::from_mode(0o600))?;
    let members = all.iter().map(|node| Ok((node.name(), address(node)?.to_string())));
    let members: Vec<(&str, String)> = members.collect::<Result<_>>()?;
    let told = json!({
        "members": members,
        "account": account(node)?,
        "postgres": {
            "port": lab.cluster().config().settings.postgres.port,
            "password": password(node)?,
        },
    });
    Ok(fs::write(folder.join("told.json"), told.to_string())?)
}

/// The agents' account in ZooKeeper, as the wave's program has it.
pub fn account(node: &Container<'_>) -> Result<String> {
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
