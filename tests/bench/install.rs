//! A node installed from a stick: seconds and bytes until it is installed, against the size of the release and the speed of
//! the disk; and from the stick to converged, against a plain start from a disk in the same machine.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use anyhow::{Context as _, Result};
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::machine::{BOOT, Bus, Disk, Hardware};
use trilith_tests::network::Network;
use trilith_tests::node::Node;

use crate::table::{Table, median, seconds};

const TARGET: &str = "TARGET";
/// Bytes in what stat(2) counts `st_blocks` in.
const BLOCK: u64 = 512;
const MIB: f64 = 1024.0 * 1024.0;

/// What one installation took.
struct Installed {
    /// Power-on to the first byte on the disk, to the restart, to converged, in seconds.
    begun: f64,
    done: f64,
    converged: f64,
    /// Bytes that the disk takes on the host at the restart: what was written, and not what was only zeroed.
    taken: u64,
}

pub(crate) fn figures(table: &mut Table, rounds: usize) -> Result<()> {
    let image = artifact::image()?;
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    cluster.install_on(TARGET)?;
    let medium = cluster.medium(&image)?;
    let network = Network::isolate()?;
    let mut spec = Node::spec(&network, &cluster, 1)?;
    spec.disks = vec![Disk::medium(medium.clone(), Bus::Usb), Disk::empty(TARGET, Bus::Virtio, 32)];
    let mut plain = spec.clone();
    plain.disks = vec![Disk::of(image.clone())];
    plain.bundle = Some(cluster.bundle(1)?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        let node = Node::switch_on(Hardware::assemble(plain.clone())?, &cluster, 1)?;
        node.console().wait("network converged", BOOT)?;
        theirs.push(start.elapsed().as_secs_f64());
        drop(node);
        ours.push(install(Hardware::assemble(spec.clone())?, &cluster)?);
    }
    let release = ["root", "verity", "efi"].map(|part| size(&image.with_extension(part)));
    let release: f64 = release.into_iter().sum::<Result<f64>>()?;
    table.add("medium of trilith usb", &mebibytes(size(&medium)?), "");
    table.add("what is installed of it: root, hash tree, UKI", &mebibytes(release), "");
    show(table, &ours, release)?;
    let all = |pick: fn(&Installed) -> f64| ours.iter().map(pick).collect::<Vec<_>>();
    let converged = all(|it| it.converged);
    table.add("stick in to converged", &seconds(&converged), "");
    table.add("plain disk, power-on to converged", &seconds(&theirs), "");
    table.add("  stick : plain disk", &format!("{:.2}", median(converged) / median(theirs)), "");
    Ok(())
}

/// The installation alone, against a plain copy of as many bytes on the same disk of the host.
fn show(table: &mut Table, ours: &[Installed], release: f64) -> Result<()> {
    let all = |pick: fn(&Installed) -> f64| ours.iter().map(pick).collect::<Vec<_>>();
    table.add("power-on to installed", &seconds(&all(|it| it.done)), "");
    let work = all(|it| it.done - it.begun);
    table.add("  of it the installation", &seconds(&work), "");
    let taken = ours.iter().map(|it| it.taken).max().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "fewer bytes than a float counts exactly")]
    let taken = taken as f64;
    table.add("  bytes on the disk then", &mebibytes(taken), "");
    table.add("  bytes on the disk : release", &format!("{:.2}", taken / release), "");
    let copy = copy(release)?;
    let speed = format!("{:.0} MiB/s", release / MIB / copy);
    table.add("  the host's disk, as many bytes written and durable", &speed, "");
    table.add("  installation : plain copy", &format!("{:.1}", median(work) / copy), "");
    Ok(())
}

fn install(hardware: Hardware, cluster: &Cluster) -> Result<Installed> {
    let disk = hardware.file(TARGET)?;
    let start = Instant::now();
    let now = || start.elapsed().as_secs_f64();
    let mut node = Node::switch_on(hardware, cluster, 1)?;
    node.console().wait("dividing it into partitions", BOOT)?;
    let begun = now();
    node.machine().wait_reset(BOOT)?;
    let done = now();
    let taken = disk.metadata()?.blocks() * BLOCK;
    node.console().wait("network converged", BOOT)?;
    Ok(Installed { begun, done, converged: now(), taken })
}

/// Seconds to write so many bytes beside the disks of the machines, until they are durable.
fn copy(bytes: f64) -> Result<f64> {
    let mut piece = vec![0; 1 << 20];
    File::open("/dev/urandom")?.read_exact(&mut piece)?;
    let mut file = tempfile::tempfile_in(artifact::machines()?)?;
    let start = Instant::now();
    let mut left = bytes;
    while left > 0.0 {
        file.write_all(&piece).context("cannot write to the host's disk")?;
        left -= MIB;
    }
    file.sync_all()?;
    Ok(start.elapsed().as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "fewer bytes than a float counts exactly")]
fn size(file: &std::path::Path) -> Result<f64> {
    let size = file.metadata().with_context(|| format!("no {}", file.display()))?.len();
    Ok(size as f64)
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / MIB)
}
