//! A node installed again from a stick with another release, a newer one and then the old one: it gets that release, and
//! stays who it was.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::command::run;
use trilith_tests::machine::{BOOT, Bus, Content, Disk, Hardware};
use trilith_tests::network::Network;
use trilith_tests::node::Node;

use crate::install::{SIZE, TARGET, cluster, identity, runs_from, size_of_var, wait_installed};
use crate::site;

#[test]
fn another_release_over_the_one_that_is_there_keeps_var() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = cluster()?;
    let older = medium(&cluster, &site::image()?, "older.raw")?;
    let newer = medium(&cluster, &artifact::image()?, "newer.raw")?;
    let mut stick = Disk::medium(older.clone(), Bus::Usb);
    let mut target = Disk::empty(TARGET, Bus::Virtio, SIZE);
    // As if a person chose the stick in the firmware's menu at each start.
    (stick.place, target.place) = (Some(0), Some(1));
    let mut spec = Node::spec(&network, &cluster, 1)?;
    spec.disks = vec![stick, target];
    let mut node = Node::switch_on(Hardware::assemble(spec)?, &cluster, 1)?;
    wait_installed(&mut node)?;
    node.wait_booted()?;
    let first = release(&node)?;
    node.ssh("echo kept > /var/lib/kept && sync")?;
    let before = identity(&node)?;
    let size = size_of_var(&node)?;
    eprintln!("{first} is installed:\n{before}");

    let hardware = node.kill();
    hardware.grow(TARGET, 8)?;
    let node = install_again(hardware, &cluster, newer)?;
    let second = release(&node)?;
    ensure!(second != first, "{second} is what was there before");
    stays(&node, &before)?;
    let grown = size_of_var(&node)?;
    ensure!(grown >= size + 7, "on a disk with 8 GiB more /var has {grown} GiB, and had {size}");

    // The boot loader would take the newest that it finds, and the newer one is in the other slot.
    let node = install_again(node.kill(), &cluster, older)?;
    ensure!(release(&node)? == first, "{} has started", release(&node)?);
    stays(&node, &before)
}

/// What `trilith usb` makes of an image, under this name.
fn medium(cluster: &Cluster, image: &Path, name: &str) -> Result<PathBuf> {
    let output = cluster.file().with_file_name(name);
    run(&mut cluster.usb(image, &output)?)?;
    Ok(output)
}

/// Starts the machine from this medium until it has started from its disk.
fn install_again(mut hardware: Hardware, cluster: &Cluster, medium: PathBuf) -> Result<Node<'_>> {
    hardware.spec.disks[0].content = Content::Fixed(medium);
    let mut node = Node::switch_on(hardware, cluster, 1)?;
    node.machine().wait_reset(BOOT)?;
    let mark = node.console().mark();
    node.wait_booted_after(mark)?;
    Ok(node)
}

/// The version that runs.
fn release(node: &Node<'_>) -> Result<String> {
    Ok(node.ssh(". /etc/os-release && echo $IMAGE_VERSION")?.trim().to_owned())
}

/// It runs from its disk, with the file that was left in /var, and is who it was.
fn stays(node: &Node<'_>, before: &str) -> Result<()> {
    runs_from(node, "vda")?;
    let now = identity(node)?;
    ensure!(now == before, "it is another one now:\n{now}");
    ensure!(node.ssh("cat /var/lib/kept")? == "kept\n");
    eprintln!("{} over it: the same node, with its /var", release(node)?);
    Ok(())
}
