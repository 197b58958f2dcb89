//! A node that boots the image with a bundle.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use trilith_core::status::{NodeStatus, State};

use crate::artifact;
use crate::cluster::{Cluster, cable, pings};
use crate::command::{run, sh};
use crate::console::Console;
use crate::machine::{BOOT, Disk, Hardware, Machine, REACTION, Spec};
use crate::network::Network;

/// A node of a cluster file in a virtual machine, with this thread's network as its peer.
#[derive(Debug)]
pub struct Node<'a> {
    machine: Machine,
    cluster: &'a Cluster,
    id: u16,
    /// Where the socket of the SSH connection is that commands share.
    connection: TempDir,
}

impl<'a> Node<'a> {
    /// Lays the cables and switches the node on.
    pub fn boot(network: &Network, cluster: &'a Cluster, id: u16) -> Result<Self> {
        Self::boot_image(network, cluster, id, artifact::image()?)
    }

    /// The same with another image than the newest.
    pub fn boot_image(
        network: &Network,
        cluster: &'a Cluster,
        id: u16,
        image: PathBuf,
    ) -> Result<Self> {
        let spec = Spec {
            disks: vec![Disk::of(image)],
            bundle: Some(cluster.bundle(id)?),
            ..Self::spec(network, cluster, id)?
        };
        Self::switch_on(Hardware::assemble(spec)?, cluster, id)
    }

    /// Its machine, with its cables but no disk and no bundle: [`Node::switch_on`] starts it. Cables are laid once.
    pub fn spec(network: &Network, cluster: &Cluster, id: u16) -> Result<Spec> {
        let node = cluster.node(id)?;
        Ok(Spec { nics: cable(network, node)?, ..Spec::new(node.name.as_str()) })
    }

    /// Switches on a machine that [`Node::spec`] describes, for the first time or again.
    pub fn switch_on(hardware: Hardware, cluster: &'a Cluster, id: u16) -> Result<Self> {
        Self::of(hardware.start()?, cluster, id)
    }

    /// Lets it go on from where it was frozen.
    pub fn thaw(hardware: Hardware, cluster: &'a Cluster, id: u16) -> Result<Self> {
        Self::of(hardware.thaw()?, cluster, id)
    }

    fn of(machine: Machine, cluster: &'a Cluster, id: u16) -> Result<Self> {
        Ok(Self { machine, cluster, id, connection: TempDir::new()? })
    }

    /// Takes its power away.
    pub fn kill(self) -> Hardware {
        self.machine.kill()
    }

    /// Stops it, to go on from there later ([`Machine::freeze`]).
    pub fn freeze(self) -> Result<Hardware> {
        self.machine.freeze()
    }

    /// The machine that it runs in.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Its serial console.
    pub fn console(&self) -> &Console {
        self.machine.console()
    }

    /// Waits until it has booted, its network has converged, and it can be entered.
    pub fn wait_booted(&self) -> Result<NodeStatus> {
        self.console().wait("trilithd: network converged", BOOT)?;
        self.wait_converged()
    }

    /// The same of a boot that comes after this mark on the console.
    pub fn wait_booted_after(&self, mark: usize) -> Result<NodeStatus> {
        self.console().wait_after(mark, "trilithd: network converged", BOOT)?;
        self.wait_converged()
    }

    /// Waits until its network has converged again. Nothing more can be asked of one node alone: its quorums
    /// wait for the other coordinators.
    pub fn wait_converged(&self) -> Result<NodeStatus> {
        self.wait_status("the node's network has converged", |status| {
            status.subjects.get("network").is_some_and(|network| network.state == State::Converged)
        })
    }

    /// Waits until its status is as `accept` wants it.
    pub fn wait_status(
        &self,
        what: &str,
        accept: impl Fn(&NodeStatus) -> bool,
    ) -> Result<NodeStatus> {
        self.console().until(what, REACTION, || {
            let status = self.status()?;
            ensure!(accept(&status), "{status:#?}");
            Ok(status)
        })
    }

    /// `trilithd status --json`, asked over SSH.
    pub fn status(&self) -> Result<NodeStatus> {
        // The exit code says whether it has converged; the text is wanted in both cases.
        let text = self.ssh("trilithd status --json || true")?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Runs a shell command on the node as root and returns its output. A login takes seconds of an emulated processor, so
    /// all such commands go through one (`ControlMaster`, `ssh_config(5)`).
    pub fn ssh(&self, command: &str) -> Result<String> {
        let socket = format!("ControlPath={}", self.connection.path().join("ssh").display());
        let shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=10", "-o", &socket];
        run(self.ssh_with(&shared)?.arg(command))
    }

    /// Has it start again, as a person does, and waits until it is back as after [`Node::wait_booted`].
    pub fn restart(&mut self) -> Result<NodeStatus> {
        self.reboot()?;
        self.wait_booted_after(self.console().mark())
    }

    /// Has it start again, and waits until it does.
    pub fn reboot(&mut self) -> Result<()> {
        // The reboot may come before the answer.
        let _cut = self.ssh("systemctl --no-block reboot");
        self.machine.wait_reset(BOOT)
    }

    /// Its first address on its first network.
    pub fn address(&self) -> Result<IpAddr> {
        let node = self.cluster.node(self.id)?;
        let first = node.networks.first().and_then(|network| network.addresses.first());
        Ok(first.with_context(|| format!("node {} has no address", self.id))?.address.addr())
    }

    /// The `ssh` command that reaches the node from this thread's network.
    pub fn ssh_command(&self) -> Result<Command> {
        self.ssh_with(&[])
    }

    fn ssh_with(&self, options: &[&str]) -> Result<Command> {
        let mut ssh = Command::new("timeout");
        // Nobody else is on this network, and each boot of a fresh disk has new host keys.
        ssh.args(["300", "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "LogLevel=ERROR", "-o", "ServerAliveInterval=5"])
            .args(options)
            .arg("-i")
            .arg(self.cluster.key())
            .arg(format!("root@{}", self.address()?));
        Ok(ssh)
    }

    /// Pings every address of the node with the largest packets that its network allows, unbroken.
    pub fn ping_all(&self) -> Result<()> {
        for (address, payload) in pings(&self.cluster.node(self.id)?.networks) {
            sh(&format!("ping -q -c 2 -W 10 -M do -s {payload} {address}"))?;
        }
        Ok(())
    }
}
