//! A network namespace with switches in it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};

use crate::command::{run, sh};
use crate::vlan::TaggedPort;

/// What switches and taps carry: room for 9000 bytes and tags.
pub(crate) const WIRE_MTU: u32 = 9216;

/// The largest MTU that cluster files use here, and that a peer answers with.
const PEER_MTU: u32 = 9000;

/// An own network of the calling thread: no interface of the host is in it, only `lo`.
///
/// The namespace has no name. It lives as long as this thread and what it starts, so nothing has to be
/// cleaned up, not even after SIGKILL.
#[derive(Debug)]
pub struct Network(());

impl Network {
    /// Moves the calling thread into a new network namespace. Needs root.
    ///
    /// Programs and threads that it starts from now on are in the same namespace; threads that were there
    /// before are not, so call this first.
    pub fn isolate() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET)
            .context("cannot make a network namespace (root needed)")?;
        sh("ip link set lo up")?;
        Ok(Self(()))
    }

    /// A switch: frames go from each port to all others, with their tags, up to jumbo size.
    pub fn switch(&self, name: &str) -> Result<Switch> {
        // No snooping and no spanning tree: a port forwards at once, and multicast goes everywhere.
        sh(&format!(
            "ip link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        ))?;
        sh(&format!("ip link set {name} mtu {PEER_MTU} up"))?;
        Ok(Switch { name: name.to_owned() })
    }
}

/// A switch of a [`Network`].
#[derive(Debug)]
pub struct Switch {
    name: String,
}

impl Switch {
    /// Its name, which is the bridge's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Plugs in a cable that ends in the tap `name`, for QEMU to take.
    pub fn tap(&self, name: &str) -> Result<()> {
        sh(&format!("ip tuntap add {name} mode tap"))?;
        sh(&format!("ip link set {name} mtu {WIRE_MTU} master {} up", self.name)).map(drop)
    }

    /// Makes the cable one of a group: the switch does not send what comes from one of them to another, as a
    /// real one does once its ports are bonded.
    pub fn group(&self, tap: &str) -> Result<()> {
        sh(&format!("bridge link set dev {tap} isolated on")).map(drop)
    }

    /// Makes the namespace itself a peer without a tag, by these addresses with their prefix lengths.
    pub fn peer(&self, addresses: &[impl AsRef<str>]) -> Result<()> {
        addresses.iter().try_for_each(|address| add_address(&self.name, address.as_ref()))
    }

    /// Makes the namespace itself a peer on a VLAN, by these addresses with their prefix lengths.
    ///
    /// The host's kernel need not know VLANs: the tags are put on and taken off by a thread here.
    pub fn tagged_peer(&self, vlan: u16, addresses: &[impl AsRef<str>]) -> Result<()> {
        let port = format!("{}.{vlan}", self.name);
        let trunk = format!("{}t{vlan}", self.name);
        let tagged = TaggedPort::open(&trunk, &port, vlan)?;
        sh(&format!("ip link set {trunk} mtu {WIRE_MTU} master {} up", self.name))?;
        sh(&format!("ip link set {port} mtu {PEER_MTU} up"))?;
        addresses.iter().try_for_each(|address| add_address(&port, address.as_ref()))?;
        tagged.forward();
        Ok(())
    }
}

/// A second host: another network namespace, which interfaces can be moved into.
#[derive(Debug)]
pub struct Neighbour {
    // Holds the namespace open; ends when its stdin closes, also if this process is killed.
    holder: Child,
}

impl Neighbour {
    /// Makes it; nothing but `lo` is in it, and that is up.
    pub fn new() -> Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start unshare")?;
        let mut line = String::new();
        let stdout = holder.stdout.take().context("unshare has no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        anyhow::ensure!(line == "ready\n", "cannot make a network namespace (root needed)");
        Ok(Self { holder })
    }

    /// Takes this interface out of the thread's own network.
    pub fn take(&self, link: &str) -> Result<()> {
        sh(&format!("ip link set {link} netns {}", self.holder.id())).map(drop)
    }

    /// Runs a command in it (see [`sh`]).
    pub fn sh(&self, text: &str) -> Result<String> {
        run(self.command().args(text.split_whitespace()))
    }

    /// A command in it, still without program and arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.holder.id().to_string()]);
        command
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _status = self.holder.wait();
    }
}

fn add_address(link: &str, address: &str) -> Result<()> {
    // The kernel's own duplicate detection would only delay a peer that nobody contests.
    let nodad = if address.contains(':') { "nodad" } else { "" };
    sh(&format!("ip addr add {address} dev {link} {nodad}")).map(drop)
}
