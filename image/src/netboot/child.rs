//! dnsmasq while it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStderr;

use super::dnsmasq::FIRST_STAGE;
use crate::exec;

/// What dnsmasq runs in, so that it ends when we do, also by SIGKILL: one that stays behind would go on answering beside
/// the next. The kernel ends `unshare` with us, with it the shell, which is the first process of a namespace, and with that
/// everything in the namespace. dnsmasq itself would forget that it is to end with us when it changes its user.
#[rustfmt::skip]
const BOUND: [&str; 13] = [
    "--pdeathsig", "KILL", "--",
    "unshare", "--fork", "--pid", "--kill-child", "--",
    "sh", "-c", "dnsmasq \"$@\" & wait $!", "dnsmasq",
    "--keep-in-foreground",
];

/// A running dnsmasq. It ends with this.
pub(crate) struct Child {
    process: tokio::process::Child,
    lines: Lines<BufReader<ChildStderr>>,
    /// The last that it said.
    last: String,
}

/// Puts in place what dnsmasq reads, which it does as another user; says whether there is a first stage for TFTP.
pub(crate) fn lay_out(folder: &Path, ipxe: &Path) -> Result<bool> {
    let tftp = folder.join("tftp");
    fs::create_dir(&tftp).with_context(|| format!("cannot make {}", tftp.display()))?;
    for folder in [folder, &tftp] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot open {} to others", folder.display()))?;
    }
    if !ipxe.exists() {
        return Ok(false);
    }
    let first = tftp.join(FIRST_STAGE);
    fs::copy(ipxe, &first).with_context(|| format!("cannot copy {}", ipxe.display()))?;
    fs::set_permissions(&first, fs::Permissions::from_mode(0o644))?;
    Ok(true)
}

impl Child {
    /// Starts dnsmasq with this configuration, which it has judged before.
    pub(crate) fn start(folder: &Path, config: &str) -> Result<Self> {
        let file = folder.join("dnsmasq.conf");
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let argument = format!("--conf-file={}", file.display());
        exec::output(Command::new("dnsmasq").arg("--test").arg(&argument))
            .context("dnsmasq (package dnsmasq-base) does not take its configuration")?;
        let mut command = tokio::process::Command::new("setpriv");
        command.args(BOUND).arg(&argument);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().context("cannot start dnsmasq")?;
        let stderr = child.stderr.take().context("dnsmasq has no standard error")?;
        Ok(Self { process: child, lines: BufReader::new(stderr).lines(), last: String::new() })
    }

    /// The next line that it says. Nothing is lost if nobody waits to the end.
    ///
    /// # Errors
    /// It has ended: without it nobody starts any more.
    pub(crate) async fn line(&mut self) -> Result<String> {
        if let Some(line) = self.lines.next_line().await.context("cannot follow dnsmasq")? {
            self.last.clone_from(&line);
            return Ok(line);
        }
        let status = self.process.wait().await.context("cannot wait for dnsmasq")?;
        bail!("dnsmasq ended: {status}: {}", self.last)
    }
}
