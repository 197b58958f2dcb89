//! Nodes on and off: orderly, by a power cut, and with empty disks.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::keeper::remove_group;
use super::{CONSOLE, Lab, VAR};
use crate::artifact;
use crate::command::{output, run};

/// How long a node may take to shut down in order; then something in it hangs.
const ORDERLY: Duration = Duration::from_secs(100);
/// How long processes may take to vanish that were killed.
const KILLED: Duration = Duration::from_secs(20);

impl Lab {
    /// Switches a node on.
    pub fn start(&self, name: &str) -> Result<()> {
        let node = self.plan.node(name)?;
        ensure!(!self.node(name)?.is_on(), "{name} is on already");
        self.clear_remains(name)?;
        self.plug(node)?;
        let mut boot = self.keeper.enter(&["--mount", "--net", "--pid"]);
        boot.arg(artifact::program("trilith-lab")?).arg("boot").arg(&self.folder).arg(name);
        run(&mut boot).map(drop).with_context(|| format!("{name} does not start"))
    }

    /// Shuts a node down in order.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.node(name)?.shell("systemctl poweroff --no-block")?;
        if !self.emptied(name, ORDERLY)? {
            bail!(
                "{name} hangs in its shutdown: `ci/lab logs {name}` shows where, `ci/lab kill {name}` ends it"
            );
        }
        self.clear_remains(name)
    }

    /// Cuts a node's power: not one more packet leaves it, and nothing in it ends in order.
    ///
    /// What it has written but not synced is kept all the same, for its disks are files of this host.
    pub fn kill(&self, name: &str) -> Result<()> {
        let node = self.plan.node(name)?;
        ensure!(self.node(name)?.is_on(), "{name} is off already");
        // At this moment, however long the rest takes.
        fs::write(self.keeper.group(name).join("cgroup.freeze"), "1")?;
        self.unplug(node)?;
        fs::write(self.keeper.group(name).join("cgroup.kill"), "1")?;
        ensure!(self.emptied(name, KILLED)?, "{name} does not die");
        self.clear_remains(name)
    }

    /// Gives a node that is off an empty /var and empty disks.
    pub fn wipe(&self, name: &str) -> Result<()> {
        let node = self.plan.node(name)?;
        ensure!(!self.node(name)?.is_on(), "{name} is on: `ci/lab kill {name}` first");
        let var = self.node_folder(node).join(VAR);
        fs::remove_dir_all(&var).with_context(|| format!("cannot empty {}", var.display()))?;
        for disk in node.disks.iter().filter_map(|disk| disk.device.as_ref()) {
            run(Command::new("blkdiscard").arg("--force").arg(disk))?;
        }
        self.furnish(node)
    }

    /// Waits until no process is left in the node's control group. `false`: the time is over.
    fn emptied(&self, name: &str, patience: Duration) -> Result<bool> {
        let path = self.keeper.group(name).join("cgroup.events");
        let deadline = Instant::now() + patience;
        loop {
            // The kernel tells a change to those who have read the file since they opened it.
            let events = File::open(&path)?;
            if !populated(&std::io::read_to_string(&events)?) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let mut watched = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            poll(&mut watched, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))?;
        }
    }

    /// What is left of the run before: its control groups, its network.
    fn clear_remains(&self, name: &str) -> Result<()> {
        let group = self.keeper.group(name);
        if group.exists() {
            remove_group(&group).with_context(|| format!("cannot remove {}", group.display()))?;
        }
        let node = self.plan.node(name)?;
        let mut list = self.keeper.enter(&["--mount"]);
        let known = String::from_utf8_lossy(&output(list.args(["ip", "netns", "list"]))?.stdout)
            .into_owned();
        if known.lines().any(|line| line.split(' ').next() == Some(name)) {
            let ports = output(self.outside("ip").args(["-brief", "link"]))?;
            let ports = String::from_utf8_lossy(&ports.stdout).into_owned();
            if node.nics.iter().any(|nic| ports.contains(&format!("{}@", nic.port))) {
                self.unplug(node)?;
            }
            self.forget_network(node)?;
        }
        Ok(())
    }

    /// Everything a node has said on its console.
    pub fn console(&self, name: &str) -> Result<String> {
        let path = self.node_folder(self.plan.node(name)?).join(CONSOLE);
        if !path.exists() {
            return Ok(String::new());
        }
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&strip_ansi_escapes::strip(text)).into_owned())
    }
}

/// Whether a control group has a process, as `cgroup.events` says it.
pub(super) fn populated(events: &str) -> bool {
    events.lines().any(|line| line == "populated 1")
}

/// Whether a node's control group has a process in it.
pub(super) fn is_populated(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.events")).is_ok_and(|events| populated(&events))
}
