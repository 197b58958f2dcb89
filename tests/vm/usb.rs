//! Diskless nodes that start from a medium: the same bytes as a stick and as a disc.

use anyhow::{Context as _, Result, ensure};
use serde_yaml::Value;
use trilith_core::names::EndorsementKey;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::machine::{BOOT, Bus, Disk, Hardware, Machine, REACTION};
use trilith_tests::network::Network;
use trilith_tests::node::Node;
use trilith_tests::operator::{Operator, version};

use crate::faults::checks_signatures;
use crate::install;

#[test]
fn a_stick_starts_the_node_that_the_machine_is() -> Result<()> {
    starts(Bus::Usb)
}

#[test]
fn a_disc_starts_the_node_that_the_machine_is() -> Result<()> {
    starts(Bus::Optical)
}

/// The bundle is found among those of all nodes, nothing that was there before is changed, and the console says both.
fn starts(bus: Bus) -> Result<()> {
    let network = Network::isolate()?;
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    // One with a disk of its own would be installed on it.
    cluster.edit(|file| {
        file["node_defaults"].as_mapping_mut().map(|all| all.remove("system_disk"));
    })?;
    let mut spec = Node::spec(&network, &cluster, 2)?;
    spec.disks = vec![Disk::medium(cluster.medium(&artifact::image()?)?, bus)];
    let node = Node::switch_on(Hardware::assemble(spec)?, &cluster, 2)?;
    node.console().wait("booted from a medium with 3 bundles", BOOT)?;
    node.console().wait("this is node hv2 (ID 2) of cluster home", BOOT)?;
    node.console().wait("medium: taken, by the MAC address 52:54:00:00:02:00", REACTION)?;
    node.console().wait("kept in memory", REACTION)?;
    node.wait_booted()?;
    node.ping_all()?;
    let var = node.ssh("findmnt --noheadings --output FSTYPE /var")?;
    ensure!(var.trim() == "tmpfs", "/var is {var}");
    let failed = node.ssh("systemctl list-units --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    let bundles = node.ssh("stat --format %a /run/trilith-boot /run/trilith-boot/medium/*")?;
    ensure!(bundles.split_whitespace().collect::<Vec<_>>() == ["700", "600", "600", "600"]);
    Ok(())
}

/// A machine whose firmware is in setup mode, and a medium of a release whose operator has made keys for it: from the first
/// start on, the firmware starts what the operator has signed and nothing else. The disk that is installed gives them as well
/// to firmware that has forgotten them.
#[test]
fn a_medium_gives_firmware_its_keys_and_so_does_the_disk() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = install::cluster()?;
    let image = artifact::image()?;
    let operator = Operator::new()?;
    operator.enroll()?;
    operator.release_all(&[&image])?;
    let medium = cluster.medium(&operator.disk_image(&version(&image)?)?)?;
    let mut spec = Node::spec(&network, &cluster, 1)?;
    spec.secure_boot = true;
    spec.disks = vec![
        Disk::medium(medium, Bus::Usb),
        Disk::empty(install::TARGET, Bus::Nvme, install::SIZE),
    ];
    let mut node = Node::switch_on(Hardware::assemble(spec)?, &cluster, 1)?;
    install::wait_installed(&mut node)?;
    let mut hardware = node.kill();
    hardware.pull("MEDIUM")?;
    let node = Node::switch_on(hardware, &cluster, 1)?;
    node.wait_booted()?;
    ensure!(checks_signatures(&node)?, "the medium has given it no keys");
    let hardware = node.kill();
    hardware.forget()?;
    let node = Node::switch_on(hardware, &cluster, 1)?;
    node.wait_booted()?;
    ensure!(checks_signatures(&node)?, "the disk has given it no keys");
    install::runs_from(&node, "nvme0n1")
}

/// A machine that no bundle on the medium is for. What it shows is written into the cluster file, its TPM alone; then the
/// bundle on the medium is its own, and nobody else can read it.
#[test]
fn a_stranger_is_shown_what_to_write_and_is_known_by_its_tpm() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    let mut spec = Node::spec(&network, &cluster, 2)?;
    for nic in &mut spec.nics {
        nic.mac = nic.mac.replace("52:54:00:00:02:", "52:54:00:00:63:");
    }
    let mac = spec.nics.first().context("the node has no NIC")?.mac.clone();
    spec.disks = vec![Disk::medium(cluster.medium(&artifact::image()?)?, Bus::Usb)];
    spec.tpm = true;
    let machine = Machine::start(spec)?;
    let console = machine.console();
    console.wait("medium: refused: none of the 3 bundles there is for this machine", BOOT)?;
    console.wait(&format!("mac: [\"{mac}\""), REACTION)?;
    let tpm = console.until("the key of its TPM", REACTION, || {
        let line = console.wait("      tpm: ", REACTION)?;
        Ok(EndorsementKey::try_from(line.trim().trim_start_matches("tpm: ").to_owned())?)
    })?;
    eprintln!("the machine's TPM: {tpm}");

    let mut hardware = machine.kill();
    cluster.edit(|file| file["nodes"][1]["match"] = mapping("tpm", tpm.as_str()))?;
    hardware.spec.disks = vec![Disk::medium(cluster.medium(&artifact::image()?)?, Bus::Usb)];
    let machine = hardware.start()?;
    let console = machine.console();
    console.wait("hv2: opened by this machine's TPM", BOOT)?;
    console.wait("medium: taken, by its TPM", REACTION)?;
    Ok(())
}

fn mapping(key: &str, value: &str) -> Value {
    Value::Mapping([(key.into(), value.into())].into_iter().collect())
}
