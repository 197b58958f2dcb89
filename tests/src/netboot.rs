//! Nodes that start from the network: nothing is in the machine but a NIC, and nothing on the network but
//! `trilith netboot`, with a real dnsmasq below it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::artifact::{self, program};
use crate::cluster::Cluster;
use crate::machine::{Hardware, Spec};
use crate::network::Network;
use crate::node::Node;
use crate::program::Program;

/// The most memory that a node without a disk may need before it runs machines, in MiB.
pub const MEMORY: u32 = 3072;

/// By which way the firmware starts from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// UEFI HTTP boot at once: PXE, which OVMF tries first and for minutes, is switched off.
    Http,
    /// As the firmware leaves the factory: PXE first.
    Pxe,
}

/// A cluster, and the network that its node 1 starts from.
#[derive(Debug)]
pub struct Lan {
    network: Network,
    /// The cluster.
    pub cluster: Cluster,
    folder: TempDir,
}

impl Lan {
    /// This cluster.
    pub fn of(cluster: Cluster) -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder")?;
        Ok(Self { network: Network::isolate()?, cluster, folder })
    }

    /// The homelab, but that its nodes have no disk to be installed on.
    pub fn without_disks() -> Result<Self> {
        Self::diskless(None)
    }

    /// The same, but that they keep their /var on the disk with this serial number.
    pub fn with_var_on(serial: &str) -> Result<Self> {
        Self::diskless(Some(&format!("  var_disk: {{serial: {serial}}}")))
    }

    /// The homelab with this line in place of the one about system disks.
    fn diskless(line: Option<&str>) -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder")?;
        let text = fs::read_to_string(artifact::cluster("homelab.yaml"))?;
        let lines = text.lines().filter(|line| !line.contains("system_disk:"));
        let mut lines: Vec<&str> = lines.collect();
        let defaults = lines.iter().position(|line| line.starts_with("node_defaults:"));
        if let Some(line) = line {
            lines.insert(defaults.context("homelab.yaml has no node_defaults")? + 1, line);
        }
        let file = folder.path().join("diskless.yaml");
        fs::write(&file, lines.join("\n"))?;
        Self::of(Cluster::sample(&file)?)
    }

    /// A folder that goes with this.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Node 1, off, with its cable. `TRILITH_MEMORY` is for a person in search of the least that is enough, in MiB.
    pub fn machine(&self, way: Way) -> Result<Hardware> {
        let memory = std::env::var("TRILITH_MEMORY").map_or(Ok(MEMORY), |text| text.parse())?;
        let firmware = match way {
            Way::Http => ["opt/org.tianocore/IPv4PXESupport", "opt/org.tianocore/IPv6PXESupport"]
                .map(|name| (name, "n"))
                .to_vec(),
            Way::Pxe => Vec::new(),
        };
        let spec = Node::spec(&self.network, &self.cluster, 1)?;
        Hardware::assemble(Spec { memory, firmware, ..spec })
    }

    /// `trilith netboot` with the release in this folder, ready to answer.
    pub fn serve(&self, release: &Path, arguments: &[&str]) -> Result<Program> {
        let mut command = Command::new(program("trilith")?);
        command.arg("netboot").arg(self.cluster.file()).arg("--identity");
        command.arg(self.cluster.identity()).arg("--image").arg(release);
        command.args(["--interface", "sw0", "--dhcp", "10.10.0.100-10.10.0.120"]);
        let server = Program::start(command.args(arguments))?;
        server.until(" at http://10.10.0.254:29812/")?;
        Ok(server)
    }
}

/// The folder with the release under test.
pub fn release() -> Result<PathBuf> {
    Ok(artifact::image()?.parent().context("an image without a folder")?.to_owned())
}
