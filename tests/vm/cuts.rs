//! Power cuts in the middle of an installation. The machine is started from a medium once, with no disk in it; frozen there;
//! and then goes on from there as often as wanted, with a disk plugged in, so that a cut costs an installation and no boot.

use std::time::Instant;

use anyhow::{Result, ensure};
use trilith_tests::artifact;
use trilith_tests::installed::{Found, look};
use trilith_tests::machine::{BOOT, Bus, Disk, Hardware, Machine};
use trilith_tests::network::Network;
use trilith_tests::node::Node;

use crate::install::{SIZE, TARGET, cluster, runs_from};

/// Where the power is cut: when the console has said this, and so many MiB more were written to the disk.
const CUTS: [(&str, u64); 12] = [
    ("dividing it into partitions", 0),
    ("dividing it into partitions", 1),
    ("copying the release: 0 %", 0),
    ("copying the release: 0 %", 300),
    ("copying the release: 0 %", 900),
    ("reading the release back", 0),
    ("writing who the node is", 0),
    ("writing loader and kernel", 0),
    ("writing loader and kernel", 8),
    ("writing loader and kernel", 40),
    ("telling the firmware", 0),
    ("the machine starts from it now", 0),
];

#[test]
fn a_power_cut_leaves_a_disk_that_starts_or_is_installed_again() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = cluster()?;
    let mut spec = Node::spec(&network, &cluster, 1)?;
    spec.disks = vec![Disk::medium(cluster.medium(&artifact::image()?)?, Bus::Usb)];
    spec.slots = 1;
    let node = Node::switch_on(Hardware::assemble(spec)?, &cluster, 1)?;
    node.console().wait("no disk fits the rule", BOOT)?;
    eprintln!("no disk fits: the machine says so, and waits");
    let mut hardware = node.freeze()?;

    for (number, cut) in CUTS.iter().enumerate() {
        // A disk of its own each time; the one before is thrown away.
        hardware = one_cut(hardware, *cut)?;
        if number + 1 < CUTS.len() {
            std::fs::remove_file(hardware.file_of(&target()))?;
        }
    }
    hardware.spec.disks = vec![target()];
    let node = Node::switch_on(hardware, &cluster, 1)?;
    node.wait_booted()?;
    runs_from(&node, "vda")
}

fn target() -> Disk {
    Disk::empty(TARGET, Bus::Virtio, SIZE)
}

/// Cuts the power once, looks at the disk, and lets the installation come to its end.
fn one_cut(hardware: Hardware, (words, more): (&str, u64)) -> Result<Hardware> {
    let start = Instant::now();
    let mut machine = hardware.thaw()?;
    machine.plug_disk(0, &target())?;
    machine.console().wait(words, BOOT)?;
    wait_written(&mut machine, more << 20)?;
    let hardware = machine.kill();
    let file = hardware.file_of(&target());
    let left = look(&target(), &file)?;

    let mut machine = hardware.thaw()?;
    machine.plug_disk(0, &target())?;
    machine.wait_reset(BOOT)?;
    let divided = machine.console().since(0).contains("dividing it into partitions");
    let hardware = machine.kill();
    ensure!(look(&target(), &file)? == Found::Release, "after {words:?} + {more} MiB");
    let seconds = start.elapsed().as_secs();
    let how = if divided { "divided anew" } else { "carried on" };
    eprintln!(
        "cut at {words:?} + {more} MiB: {left:?} on the disk; {how}, whole after {seconds} s"
    );
    Ok(hardware)
}

/// Waits until so many bytes more were written to the disk that was plugged in.
fn wait_written(machine: &mut Machine, more: u64) -> Result<()> {
    let console = machine.console().clone();
    let before = machine.written(0)?;
    console.until("more is written", BOOT, || {
        let written = machine.written(0)? - before;
        ensure!(written >= more, "{written} bytes");
        Ok(())
    })
}
