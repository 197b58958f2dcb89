//! Nodes that start from the network. Nothing is in the machine but a NIC, and nothing on the network but
//! `trilith netboot`, with a real dnsmasq below it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use gpt::GptConfig;
use tempfile::TempDir;
use trilith_tests::artifact::{self, program};
use trilith_tests::cluster::Cluster;
use trilith_tests::command::sh;
use trilith_tests::machine::{BOOT, Hardware, REACTION, Spec};
use trilith_tests::network::Network;
use trilith_tests::node::Node;
use trilith_tests::program::Program;

/// The most memory that a node without a disk may need before it runs machines, in MiB.
const MEMORY: u32 = 3072;

/// With it OVMF does not try PXE, which takes it minutes if nobody answers, before HTTP boot.
const NO_PXE: [(&str, &str); 2] =
    [("opt/org.tianocore/IPv4PXESupport", "n"), ("opt/org.tianocore/IPv6PXESupport", "n")];

/// A cluster without disks, and the network that its node 1 starts from.
struct Lan {
    network: Network,
    cluster: Cluster,
    folder: TempDir,
}

impl Lan {
    fn new() -> Result<Self> {
        let network = Network::isolate()?;
        let folder = TempDir::new().context("cannot make a folder")?;
        // The homelab, but that its nodes have no disk to be installed on.
        let text = fs::read_to_string(artifact::cluster("homelab.yaml"))?;
        let lines = text.lines().filter(|line| !line.contains("system_disk:"));
        let file = folder.path().join("diskless.yaml");
        fs::write(&file, lines.collect::<Vec<_>>().join("\n"))?;
        let cluster = Cluster::sample(&file)?;
        Ok(Self { network, cluster, folder })
    }

    /// The machine, off, with its cable.
    fn machine(&self, firmware: &[(&'static str, &'static str)]) -> Result<Hardware> {
        let spec = Node::spec(&self.network, &self.cluster, 1)?;
        Hardware::assemble(Spec { memory: memory()?, firmware: firmware.to_vec(), ..spec })
    }

    fn serve(&self, image: &Path, arguments: &[&str]) -> Result<Program> {
        let mut command = Command::new(program("trilith")?);
        command.arg("netboot").arg(self.cluster.file()).arg("--identity");
        command.arg(self.cluster.identity()).arg("--image").arg(image);
        command.args(["--interface", "sw0", "--dhcp", "10.10.0.100-10.10.0.120"]);
        let server = Program::start(command.args(arguments))?;
        server.until(" at http://10.10.0.254:29812/")?;
        Ok(server)
    }
}

/// `TRILITH_MEMORY` is for a person in search of the least.
fn memory() -> Result<u32> {
    std::env::var("TRILITH_MEMORY").map_or(Ok(MEMORY), |text| Ok(text.parse()?))
}

/// The folder with the release under test.
fn release() -> Result<PathBuf> {
    Ok(artifact::image()?.parent().context("an image without a folder")?.to_owned())
}

/// What every node without a disk is, once it has converged.
fn check(node: &Node<'_>) -> Result<()> {
    node.wait_booted()?;
    node.ping_all()?;
    let var = node.ssh("findmnt --noheadings --output FSTYPE /var")?;
    ensure!(var.trim() == "tmpfs", "/var is {var}");
    let failed = node.ssh("systemctl list-units --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    let modes = node.ssh("stat --format %a /run/trilith-boot /run/trilith-boot/network/*")?;
    ensure!(modes.split_whitespace().eq(["700", "600"]), "{modes}");
    let free =
        node.ssh("cat /proc/meminfo; findmnt --types tmpfs --output TARGET,USED --noheadings")?;
    let value = |name: &str| {
        let line = free.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).context("meminfo")
    };
    let used = (value("MemTotal:")? - value("MemAvailable:")?) >> 10;
    let shared = value("Shmem:")? >> 10;
    eprintln!("memory: {used} MiB used of {} MiB, {shared} MiB of them in tmpfs", memory()?);
    Ok(())
}

#[test]
fn by_uefi_http_once_a_person_has_compared_the_fingerprint() -> Result<()> {
    let lan = Lan::new()?;
    let machine = lan.machine(&NO_PXE)?;
    let mut server = lan.serve(&release()?, &["--ipxe", "/none"])?;
    let node = Node::switch_on(machine, &lan.cluster, 1)?;
    server.until_within("asks for uki.efi", BOOT)?;
    let key = node.console().wait("netboot: the key of this machine: ", BOOT)?;
    let print = key.rsplit(' ').next().context("no fingerprint")?;
    let entry = server.until_within("waits: y 1 or n 1", REACTION)?;
    ensure!(entry.contains(print) && entry.contains("node 1 (hv1)"), "{entry}: {key}");
    node.console().wait("waiting for the operator's yes", REACTION)?;
    server.say("y 1")?;
    node.console().wait("netboot: this machine is node 1 (hv1) of home", REACTION)?;
    server.until_within("node 1 has reported in", REACTION)?;
    node.console().wait("network: taken, by the MAC address 52:54:00:00:01:00", BOOT)?;
    check(&node)
}

#[test]
fn by_pxe_and_ipxe_from_a_server_that_is_killed_and_started_again() -> Result<()> {
    let lan = Lan::new()?;
    let machine = lan.machine(&[])?;
    let server = lan.serve(&release()?, &["--approve", "auto"])?;
    let node = Node::switch_on(machine, &lan.cluster, 1)?;
    server.until_within("snponly.efi", BOOT)?;
    server.until_within("asks for uki.efi", BOOT)?;
    node.console().wait("netboot: 10 %", BOOT)?;
    drop(server);
    node.console().wait("going on: ", BOOT)?;
    let server = lan.serve(&release()?, &["--approve", "auto", "--again"])?;
    server.until_within("goes on with disk.zst at byte", REACTION)?;
    node.console().wait("netboot: 100 %", BOOT)?;
    check(&node)
}

#[test]
fn a_changed_byte_in_the_root_is_refused_and_the_machine_starts_again() -> Result<()> {
    let lan = Lan::new()?;
    let machine = lan.machine(&NO_PXE)?;
    let changed = changed_release(lan.folder.path())?;
    let _server = lan.serve(&changed, &["--approve", "auto", "--ipxe", "/none"])?;
    let mut node = Node::switch_on(machine, &lan.cluster, 1)?;
    node.console()
        .wait("REFUSED what http://10.10.0.254:29812/ gave: its root is not the one", BOOT)?;
    node.console().wait("no server gives the root that this UKI stands for", REACTION)?;
    node.machine().wait_reset(BOOT)
}

/// The release under test, but that one byte of its root is another one.
fn changed_release(folder: &Path) -> Result<PathBuf> {
    let image = artifact::image()?;
    let stem = image.file_stem().context("an image without a name")?;
    // Not `with_extension`: a version may have points in it.
    let beside = |ending: &str| folder.join(format!("{}.{ending}", stem.to_string_lossy()));
    fs::copy(image.with_extension("efi"), beside("efi"))?;
    let raw = beside("raw");
    sh(&format!("cp --sparse=always {} {}", image.display(), raw.display()))?;
    let disk = GptConfig::new().writable(false).open(&raw).context("no disk")?;
    let root = disk.partitions().values().max_by_key(|it| it.last_lba - it.first_lba);
    let middle = root.context("no root")?.first_lba * 512 + (100 << 20);
    let file = File::options().read(true).write(true).open(&raw)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle)?;
    file.write_all_at(&[byte[0] ^ 1], middle)?;
    let packed = File::create(beside("raw.zst"))?;
    zstd::stream::copy_encode(File::open(&raw)?, packed, 1)?;
    Ok(folder.to_owned())
}
