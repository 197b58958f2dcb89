//! The node before the upgrade: installed, started, and frozen. A row goes on from there, so that it costs no boot of the
//! old release.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_yaml::Value;
use tempfile::TempDir;
use trilith_core::status::State;
use trilith_core::version::Version;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::laid::{lay, stage};
use trilith_tests::machine::{BOOT, Bus, Disk, Hardware, REACTION, Spec};
use trilith_tests::network::Network;
use trilith_tests::node::Node;
use trilith_tests::operator::{Operator, version};
use trilith_tests::server::Server;
use trilith_tests::upgrade::Wish;

use super::cases::LIMIT;
use crate::install::{SIZE, TARGET, cluster, the_firmware_starts_it_four_times};

/// The new image: `ci/vm` builds it beside the other, of the same sources.
pub(crate) fn next_image() -> Result<PathBuf> {
    std::env::var_os("TRILITH_NEXT_IMAGE").map(PathBuf::from).context(
        "TRILITH_NEXT_IMAGE does not name the image of another version: run `ci/vm` or `ci/faults`",
    )
}

/// The disk for data of the node that is every quorum by itself.
const OSD: &str = "OSD1";

/// The one NIC of node 1.
const NIC: &str = "52:54:00:00:01:00";

/// How long an emulated machine may take until all its services run.
const FORMED: Duration = Duration::from_mins(30);

/// From where a row goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// A hypervisor alone; the new release was never heard of.
    Plain,
    /// The same, and the new release is staged.
    Staged,
    /// A coordinator with all its services and an OSD, and the new release is staged.
    Formed,
}

/// All that rows have in common.
pub(crate) struct Bench {
    pub(crate) secure_boot: bool,
    pub(crate) old: Version,
    pub(crate) new: Version,
    pub(crate) operator: Operator,
    /// Serves the releases.
    pub(crate) releases: Server,
    /// Serves broken systems, out of [`Bench::folder`].
    pub(crate) broken: Server,
    folder: TempDir,
    cluster: Cluster,
    solo: Cluster,
    spec: Spec,
    plain: OnceCell<Hardware>,
    staged: OnceCell<Hardware>,
    formed: OnceCell<Hardware>,
}

impl Bench {
    pub(crate) fn new(secure_boot: bool) -> Result<Self> {
        let network = Network::isolate()?;
        let (image, next) = (artifact::image()?, next_image()?);
        let operator = Operator::kept(&[&image, &next])?;
        // Node 1 is alone in the world: no quorum was ever there.
        let cluster = cluster()?;
        let mut spec = Node::spec(&network, &cluster, 1)?;
        spec.secure_boot = secure_boot;
        spec.log = Some(log("installation", secure_boot));
        spec.disks = vec![Disk::empty(TARGET, Bus::Virtio, SIZE)];
        let folder = TempDir::new_in(artifact::machines()?)?;
        let gateway = "10.10.0.254".parse()?;
        Ok(Self {
            secure_boot,
            old: version(&image)?,
            new: version(&next)?,
            releases: Server::start(&operator.releases(), gateway)?,
            broken: Server::start(folder.path(), gateway)?,
            operator,
            folder,
            solo: solo()?,
            cluster,
            spec,
            plain: OnceCell::new(),
            staged: OnceCell::new(),
            formed: OnceCell::new(),
        })
    }

    /// A folder whose files [`Bench::broken`] serves.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The new system as it was released.
    pub(crate) fn system(&self) -> Result<Vec<u8>> {
        self.operator.whole(&self.operator.manifest(&self.new)?.uki)
    }

    /// A bundle of the node, by its cluster's authority, for a NIC that the machine has not got.
    pub(crate) fn other_nic(&self) -> Result<String> {
        let bundle = self.cluster.bundle(1)?;
        ensure!(bundle.contains(NIC), "the bundle names another NIC than {NIC}");
        self.cluster.sign(&bundle.replace(NIC, "52:54:00:00:01:ff"))
    }

    /// A wish for the new release.
    pub(crate) fn wish(&self, activate: bool) -> Result<Wish<'_>> {
        Ok(Wish {
            version: &self.new,
            source: self.releases.url(),
            trust: self.operator.trust()?,
            activate,
            back: false,
            trial: LIMIT,
        })
    }

    /// Sees to it that rows can go on from there.
    pub(crate) fn prepare(&self, start: Start) -> Result<()> {
        self.frozen(start).map(drop).with_context(|| format!("{start:?}: the node to begin with"))
    }

    fn frozen(&self, start: Start) -> Result<(&Hardware, &Cluster)> {
        Ok(match start {
            Start::Plain => (self.plain()?, &self.cluster),
            Start::Staged => (self.staged()?, &self.cluster),
            Start::Formed => (self.formed()?, &self.solo),
        })
    }

    /// A node that goes on from there.
    pub(crate) fn node(&self, start: Start, row: &str) -> Result<Node<'_>> {
        let (frozen, cluster) = self.frozen(start)?;
        Node::thaw(frozen.twin(&log(row, self.secure_boot))?, cluster, 1)
    }

    /// Switches a row's machine on again, from cold.
    pub(crate) fn switch_on(&self, hardware: Hardware, start: Start) -> Result<Node<'_>> {
        let cluster = if start == Start::Formed { &self.solo } else { &self.cluster };
        Node::switch_on(hardware, cluster, 1)
    }

    fn plain(&self) -> Result<&Hardware> {
        once(&self.plain, || self.alone(Start::Plain))
    }

    fn staged(&self) -> Result<&Hardware> {
        once(&self.staged, || self.alone(Start::Staged))
    }

    /// A hypervisor alone.
    fn alone(&self, start: Start) -> Result<Hardware> {
        let mut spec = self.spec.clone();
        spec.bundle = Some(self.cluster.bundle(1)?);
        let node = self.install(spec, start, &self.cluster)?;
        libvirt_answers(&node)?;
        node.freeze()
    }

    fn formed(&self) -> Result<&Hardware> {
        once(&self.formed, || {
            let mut spec = self.spec.clone();
            spec.bundle = Some(self.solo.bundle(1)?);
            // A machine with an NVMe drive cannot be frozen (QEMU, `State blocked by non-migratable device`).
            spec.disks.push(Disk::empty(OSD, Bus::Virtio, 1000));
            spec.memory = 4096;
            let node = self.install(spec, Start::Formed, &self.solo)?;
            let start = Instant::now();
            node.console().until("all its quorums stand", FORMED, || stands(&node))?;
            eprintln!("all quorums of one stand after {} s", start.elapsed().as_secs());
            node.freeze()
        })
    }

    /// A node that was installed with the old release, and has started.
    fn install<'a>(&'a self, spec: Spec, start: Start, cluster: &'a Cluster) -> Result<Node<'a>> {
        let begun = Instant::now();
        let hardware = Hardware::assemble(spec)?;
        let disk = hardware.file(TARGET)?;
        lay(&disk, &self.operator, &artifact::image()?, self.secure_boot)?;
        if start != Start::Plain {
            stage(&disk, &self.operator, &next_image()?)?;
        }
        let node = Node::switch_on(hardware, cluster, 1)?;
        node.console().wait("trilithd: network converged", BOOT)?;
        node.wait_converged()?;
        node.console().until("the firmware starts it four times", REACTION, || {
            the_firmware_starts_it_four_times(&node)
        })?;
        ensure!(
            checks_signatures(&node)? == self.secure_boot,
            "Secure Boot is not as it should be"
        );
        eprintln!("{start:?}: started after {} s", begun.elapsed().as_secs());
        Ok(node)
    }
}

/// What the log of such a machine is called: both halves of the matrix may run at once.
fn log(what: &str, secure_boot: bool) -> String {
    let secure = if secure_boot { "secure" } else { "open" };
    format!("fault-{}-{secure}", what.replace([' ', ':', '/'], "-"))
}

/// The value, made if it is not there yet.
fn once<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if cell.get().is_none() {
        // Nobody else can have been quicker: it belongs to one thread.
        let _new = cell.set(make()?);
    }
    cell.get().context("it was just made")
}

/// The homelab with one node, which is every quorum by itself.
fn solo() -> Result<Cluster> {
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    let (one, pool) = (yaml("[1]")?, yaml("pool: {size: 1, min_size: 1}")?);
    let disk = yaml(&format!("serial: {TARGET}"))?;
    let osds = yaml(&format!("[{{disk: {{serial: {OSD}}}}}]"))?;
    cluster.edit(|file| {
        (file["coordinators"], file["ceph"]) = (one, pool);
        (file["node_defaults"]["system_disk"], file["node_defaults"]["osds"]) = (disk, osds);
        if let Some(nodes) = file["nodes"].as_sequence_mut() {
            nodes.truncate(1);
        }
    })?;
    Ok(cluster)
}

fn yaml(text: &str) -> Result<Value> {
    Ok(serde_yaml::from_str(text)?)
}

fn stands(node: &Node<'_>) -> Result<()> {
    let status = node.status()?;
    for name in ["zookeeper", "ceph", "osds", "patroni", "libvirt"] {
        let subject = status.subjects.get(name).with_context(|| format!("no subject {name}"))?;
        ensure!(subject.state == State::Converged, "{name}: {subject:#?}");
    }
    Ok(())
}

/// What a hypervisor alone has besides its network: it is written down as something that was there.
fn libvirt_answers(node: &Node<'_>) -> Result<()> {
    node.console().until("libvirt answers", FORMED, || {
        let status = node.status()?;
        let libvirt = status.subjects.get("libvirt").context("no subject libvirt")?;
        ensure!(libvirt.details.more.contains_key("libvirt"), "{libvirt:#?}");
        Ok(())
    })
}

/// Whether the firmware refuses what nobody has signed.
pub(crate) fn checks_signatures(node: &Node<'_>) -> Result<bool> {
    let said = node.ssh("od -An -t u1 /sys/firmware/efi/efivars/SecureBoot-* || true")?;
    Ok(said.trim().ends_with('1'))
}
