//! Nodes that start from the network.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use gpt::GptConfig;
use trilith_tests::artifact;
use trilith_tests::command::sh;
use trilith_tests::machine::{BOOT, Bus, Disk, REACTION};
use trilith_tests::netboot::{Lan, Way, release};
use trilith_tests::node::Node;

use crate::install;

/// What every node without a disk is, once it has converged.
fn check(node: &Node<'_>) -> Result<()> {
    node.console().wait("trilithd: network converged", BOOT)?;
    // Without KVM its other services take all that the machine has for minutes.
    node.console().until("it can be entered", BOOT, || node.ssh("true"))?;
    node.wait_converged()?;
    node.ping_all()?;
    let var = node.ssh("findmnt --noheadings --output FSTYPE /var")?;
    ensure!(var.trim() == "tmpfs", "/var is {var}");
    let failed = node.ssh("systemctl list-units --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    let modes = node.ssh("stat --format %a /run/trilith-boot /run/trilith-boot/network/*")?;
    ensure!(modes.split_whitespace().eq(["700", "600"]), "{modes}");
    let free = node.ssh("cat /proc/meminfo")?;
    let value = |name: &str| {
        let line = free.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).context("meminfo")
    };
    let used = (value("MemTotal:")? - value("MemAvailable:")?) >> 10;
    let shared = value("Shmem:")? >> 10;
    let all = value("MemTotal:")? >> 10;
    eprintln!("memory: {used} MiB used of {all} MiB, {shared} MiB of them in tmpfs");
    Ok(())
}

#[test]
fn by_uefi_http_once_a_person_has_compared_the_fingerprint() -> Result<()> {
    let lan = Lan::without_disks()?;
    let machine = lan.machine(Way::Http)?;
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
    let lan = Lan::without_disks()?;
    let machine = lan.machine(Way::Pxe)?;
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
    let lan = Lan::without_disks()?;
    let machine = lan.machine(Way::Http)?;
    let changed = changed_release(lan.folder())?;
    let _server = lan.serve(&changed, &["--approve", "auto", "--ipxe", "/none"])?;
    let mut node = Node::switch_on(machine, &lan.cluster, 1)?;
    node.console()
        .wait("REFUSED what http://10.10.0.254:29812/ gave: its root is not the one", BOOT)?;
    node.console().wait("no server gives the root that this UKI stands for", REACTION)?;
    node.machine().wait_reset(BOOT)
}

/// What the network carries is a medium like any other: it installs the node, which then starts from its disk, though the
/// server is still there.
#[test]
fn by_uefi_http_to_an_installation() -> Result<()> {
    let lan = Lan::of(install::cluster()?)?;
    let mut machine = lan.machine(Way::Http)?;
    machine.spec.disks = vec![Disk::empty(install::TARGET, Bus::Nvme, install::SIZE)];
    let _server = lan.serve(&release()?, &["--approve", "auto", "--ipxe", "/none"])?;
    let mut node = Node::switch_on(machine, &lan.cluster, 1)?;
    install::wait_installed(&mut node)?;
    node.wait_booted()?;
    install::runs_from(&node, "nvme0n1")?;
    install::the_firmware_starts_it_four_times(&node)
}

/// A node that is never installed has a disk for its /var: it is made at the first start. At the next ones the server hands
/// out no bundle any more, and the machine is the same node all the same, with what it wrote.
#[test]
fn a_node_keeps_its_var_on_a_disk_and_needs_its_bundle_once() -> Result<()> {
    let lan = Lan::with_var_on("KEPT")?;
    let mut machine = lan.machine(Way::Http)?;
    machine.spec.disks = vec![Disk::empty("KEPT", Bus::Virtio, 16)];
    let server = lan.serve(&release()?, &["--approve", "auto", "--ipxe", "/none"])?;
    let node = Node::switch_on(machine, &lan.cluster, 1)?;
    node.console().wait("make /var on vda", BOOT)?;
    node.console().wait("started from the network: what this node writes is kept on vda", BOOT)?;
    server.until_within("node 1 has reported in", REACTION)?;
    node.wait_booted()?;
    keeps_var(&node)?;
    let before = install::identity(&node)?;
    let size = install::size_of_var(&node)?;
    eprintln!("who it is:\n{before}");
    node.ssh("echo mine > /var/lib/mine && sync --file-system /var/lib/mine")?;

    let hardware = node.kill();
    hardware.grow("KEPT", 8)?;
    let node = Node::switch_on(hardware, &lan.cluster, 1)?;
    node.console().wait("going on with the /var that is kept on a disk", BOOT)?;
    node.wait_booted()?;
    is_the_same(&node, &before)?;
    let grown = install::size_of_var(&node)?;
    ensure!(grown >= size + 7, "on a disk with 8 GiB more /var has {grown} GiB, and had {size}");
    eprintln!("the disk is larger, and /var with it: {size} GiB, then {grown}");

    let mut node = node;
    let mark = node.console().mark();
    node.reboot()?;
    node.console().wait_after(mark, "going on with the /var that is kept on a disk", BOOT)?;
    node.console().wait_after(mark, "trilithd: network converged", BOOT)?;
    node.wait_converged()?;
    is_the_same(&node, &before)
}

/// /var is on the one partition of the disk, nothing is in memory, no bundle lies there for everybody who has the disk, and
/// nothing has failed.
fn keeps_var(node: &Node<'_>) -> Result<()> {
    let var = node.console().until("it says where /var is", REACTION, || {
        node.ssh("findmnt --noheadings --output SOURCE,FSTYPE /var")
    })?;
    ensure!(var.split_whitespace().eq(["/dev/vda1", "ext4"]), "/var is {var}");
    let left = node.ssh("ls /run/trilith-boot")?;
    ensure!(!left.lines().any(|name| name == "ram"), "{left}");
    node.console().until("the bundle is encrypted", REACTION, || {
        node.ssh("test ! -e /var/lib/trilith/bundle.yaml")
    })?;
    let failed = node.ssh("systemctl list-units --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    Ok(())
}

fn is_the_same(node: &Node<'_>, before: &str) -> Result<()> {
    keeps_var(node)?;
    let now = install::identity(node)?;
    ensure!(now == before, "it is another one now: {now}");
    let mine = node.ssh("cat /var/lib/mine")?;
    ensure!(mine.trim() == "mine", "what it wrote is {mine}");
    Ok(())
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
