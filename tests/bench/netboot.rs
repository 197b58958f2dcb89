//! From power-on to a converged node without a disk, against the same node with one.

use std::time::Instant;

use anyhow::Result;
use trilith_tests::artifact;
use trilith_tests::machine::{BOOT, Disk, Hardware};
use trilith_tests::netboot::{Lan, MEMORY, Way, release};
use trilith_tests::node::Node;

use crate::apart;
use crate::table::{Table, median, seconds};

/// Starts the same machine from a disk, by UEFI HTTP boot and by PXE in turns. Each has its own network, made anew.
pub(crate) fn figures(table: &mut Table, rounds: usize) -> Result<()> {
    let (mut disk, mut http, mut pxe) = (Vec::new(), Vec::new(), Vec::new());
    let mut used = 0.0;
    for _ in 0..rounds {
        disk.push(apart(|| from_disk(&Lan::without_disks()?))?);
        for (way, times) in [(Way::Http, &mut http), (Way::Pxe, &mut pxe)] {
            let (time, memory) = apart(|| from_network(&Lan::without_disks()?, way))?;
            times.push(time);
            used = f64::max(used, memory);
        }
    }
    table.add("power-on to converged, disk", &seconds(&disk), "");
    let disk = median(disk);
    for (name, times) in [("UEFI HTTP boot", http), ("PXE and iPXE", pxe)] {
        table.add(&format!("power-on to converged, {name}"), &seconds(&times), "");
        table.add(&format!("  {name} : disk"), &format!("{:.2}", median(times) / disk), "");
    }
    let limit = format!("{MEMORY} MiB");
    table.add(
        "memory used without a disk, image and /var in it",
        &format!("{used:.0} MiB"),
        &limit,
    );
    Ok(())
}

fn from_disk(lan: &Lan) -> Result<f64> {
    let mut machine = lan.machine(Way::Http)?;
    machine.spec.disks = vec![Disk::of(artifact::image()?)];
    machine.spec.bundle = Some(lan.cluster.bundle(1)?);
    converged(lan, machine).map(|(time, _)| time)
}

fn from_network(lan: &Lan, way: Way) -> Result<(f64, f64)> {
    let machine = lan.machine(way)?;
    let _server = lan.serve(&release()?, &["--approve", "auto"])?;
    let (time, node) = converged(lan, machine)?;
    node.wait_converged()?;
    let used = node
        .ssh("awk '/^MemTotal/ {t = $2} /^MemAvailable/ {print (t - $2) / 1024}' /proc/meminfo")?;
    Ok((time, used.trim().parse()?))
}

fn converged(lan: &Lan, machine: Hardware) -> Result<(f64, Node<'_>)> {
    let start = Instant::now();
    let node = Node::switch_on(machine, &lan.cluster, 1)?;
    node.console().wait("network converged", BOOT)?;
    Ok((start.elapsed().as_secs_f64(), node))
}
