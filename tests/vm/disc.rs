//! A disc that stays in its drive, and that the firmware starts before everything else: it installs the node once.

use anyhow::{Result, ensure};
use trilith_core::install::TIMES;
use trilith_tests::artifact;
use trilith_tests::installed::digest;
use trilith_tests::machine::{BOOT, Bus, Content, Disk, Hardware};
use trilith_tests::network::Network;
use trilith_tests::node::Node;

use crate::install::{SIZE, TARGET, cluster, identity, runs_from, wait_installed};

/// The second start from the disc starts the disk and changes nothing. The disc of another cluster with a node for this
/// machine is refused.
#[test]
fn a_disc_that_stays_installs_once_and_another_clusters_never() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = cluster()?;
    let mut disc = Disk::medium(cluster.medium(&artifact::image()?)?, Bus::Optical);
    let mut target = Disk::empty(TARGET, Bus::Sata, SIZE);
    (disc.place, target.place) = (Some(0), Some(1));
    let mut spec = Node::spec(&network, &cluster, 1)?;
    spec.disks = vec![disc, target];
    let mut node = Node::switch_on(Hardware::assemble(spec)?, &cluster, 1)?;
    wait_installed(&mut node)?;
    node.wait_booted()?;
    // The firmware puts the disc before the node's own entries at each start: that is what is tried here.
    runs_from(&node, "sda")?;
    let before = identity(&node)?;
    eprintln!("who it is:\n{before}");

    let mark = node.console().mark();
    node.reboot()?;
    eprintln!("started again, with the disc in its drive");
    node.machine().wait_reset(BOOT)?;
    let said = node.console().since(mark);
    ensure!(said.contains("booted from a medium"), "it did not start from the disc");
    ensure!(!said.contains("dividing") && !said.contains("copying"), "it was installed again");
    let mark = node.console().mark();
    node.console().wait_after(mark, "trilithd: network converged", BOOT)?;
    node.wait_converged()?;
    ensure!(identity(&node)? == before, "it is another one now: {}", identity(&node)?);
    eprintln!("the disc has started the disk, and nothing was installed again");
    another_clusters_disc_is_refused(node.kill())
}

/// A firmware that forgets the node's boot entries starts the disc again and again: the installer stops telling it to start
/// the disk, and says what a person can do.
#[test]
fn a_firmware_that_forgets_does_not_turn_in_circles() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = cluster()?;
    let mut disc = Disk::medium(cluster.medium(&artifact::image()?)?, Bus::Optical);
    // The target has no place: OVMF forgets what leads to it.
    disc.place = Some(0);
    let mut spec = Node::spec(&network, &cluster, 1)?;
    spec.disks = vec![disc, Disk::empty(TARGET, Bus::Sata, SIZE)];
    let mut node = Node::switch_on(Hardware::assemble(spec)?, &cluster, 1)?;
    wait_installed(&mut node)?;
    for start in 2..=TIMES {
        node.machine().wait_reset(BOOT)?;
        eprintln!("the firmware was told {start} times, and starts the disc");
    }
    let why = node.console().wait("take the medium out", BOOT)?;
    eprintln!("{why}");
    Ok(())
}

fn another_clusters_disc_is_refused(mut hardware: Hardware) -> Result<()> {
    let other = cluster()?;
    hardware.spec.disks[0].content = Content::Fixed(other.medium(&artifact::image()?)?);
    let before = digest(&hardware.file(TARGET)?)?;
    let node = Node::switch_on(hardware, &other, 1)?;
    let why = node.console().wait("fits the rule, and its /var is that of node", BOOT)?;
    eprintln!("a disc of another cluster: {why}");
    let hardware = node.kill();
    ensure!(digest(&hardware.file(TARGET)?)? == before, "the disk was written to");
    Ok(())
}
