//! A node installed from a stick: onto the disk that is meant, and no other; then it starts without the stick.

use std::time::Instant;

use anyhow::{Result, ensure};
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::installed::{Found, digest, is_untouched, look, make_osd};
use trilith_tests::machine::{BOOT, Bus, Disk, Hardware, REACTION};
use trilith_tests::network::Network;
use trilith_tests::node::Node;

/// The disk that the cluster file means, by its serial number.
pub(crate) const TARGET: &str = "TARGET";
/// GiB of a disk that a node can be installed on.
pub(crate) const SIZE: u32 = 32;

/// The example cluster, whose nodes are installed on the disk [`TARGET`] and carry no OSD.
pub(crate) fn cluster() -> Result<Cluster> {
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    cluster.install_on(TARGET)?;
    Ok(cluster)
}

/// One of three disks is the one: NVMe with sectors of 4 KiB, beside a blank one and a real OSD. Later the same release is
/// on a second disk, and the node still runs from its own.
#[test]
fn a_stick_installs_the_disk_that_is_meant_and_no_other() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = cluster()?;
    let mut target = Disk::empty(TARGET, Bus::Nvme, SIZE);
    target.sector = 4096;
    let mut spec = Node::spec(&network, &cluster, 1)?;
    spec.disks = vec![
        Disk::medium(cluster.medium(&artifact::image()?)?, Bus::Usb),
        Disk::empty("BLANK", Bus::Sata, SIZE),
        Disk::empty("OSD", Bus::Virtio, 8),
        target,
    ];
    let hardware = Hardware::assemble(spec)?;
    make_osd(&hardware.file("OSD")?)?;
    let osd = digest(&hardware.file("OSD")?)?;

    let mut node = Node::switch_on(hardware, &cluster, 1)?;
    wait_installed(&mut node)?;
    let mut hardware = node.kill();
    ensure!(look(hardware.disk(TARGET)?, &hardware.file(TARGET)?)? == Found::Release);
    ensure!(digest(&hardware.file("OSD")?)? == osd, "the OSD was written to");
    ensure!(is_untouched(&hardware.file("BLANK")?)?, "the blank disk was written to");
    eprintln!("the release is on the NVMe disk; the OSD beside it has the same SHA-256: {osd}");

    hardware.pull("MEDIUM")?;
    hardware.spec.disks.push(Disk::of(artifact::image()?));
    let start = Instant::now();
    let node = Node::switch_on(hardware, &cluster, 1)?;
    node.wait_booted()?;
    eprintln!("without the stick: converged {:.0} s after power-on", start.elapsed().as_secs_f64());
    runs_from(&node, "nvme0n1")?;
    the_firmware_starts_it_four_times(&node)?;
    node.ssh(
        "cd /sys/firmware/efi/efivars && chattr -i BootOrder-* Boot000* && rm BootOrder-* && \
         rm $(grep --text --files-with-matches --max-count=1 T.r.i.l.i.t.h Boot000* | tail -n 1) && \
         systemctl start trilith-boot-entries.service",
    )?;
    the_firmware_starts_it_four_times(&node)?;
    eprintln!("boot entries that somebody had removed are there again");
    node.ping_all()
}

/// Waits until the installation is over: the machine is about to start from the disk.
pub(crate) fn wait_installed(node: &mut Node<'_>) -> Result<()> {
    let start = Instant::now();
    let seconds = || start.elapsed().as_secs_f64();
    node.console().wait("dividing it into partitions", BOOT)?;
    eprintln!("the installation begins {:.0} s after power-on", seconds());
    // Firmware that was given keys has started anew before.
    node.machine().qmp().forget_events();
    node.machine().wait_reset(BOOT)?;
    eprintln!("installed {:.0} s after power-on", seconds());
    Ok(())
}

/// Root and /var are on this disk, and nothing has failed.
pub(crate) fn runs_from(node: &Node<'_>, disk: &str) -> Result<()> {
    // Services that start all at once may leave a connection without an answer.
    let var = node.console().until("it says where /var is", REACTION, || {
        node.ssh("findmnt --noheadings --output SOURCE,FSTYPE /var")
    })?;
    ensure!(var.starts_with(&format!("/dev/{disk}")) && var.trim().ends_with("ext4"), "{var}");
    let root = node.ssh("ls /sys/block/$(basename $(readlink -f /dev/mapper/root))/slaves")?;
    ensure!(root.lines().all(|slave| slave.starts_with(disk)), "the root is on {root}");
    let failed = node.ssh("systemctl list-units --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    eprintln!("it runs from {disk}: /var is {}", var.trim());
    Ok(())
}

/// GiB of the file system in /var.
pub(crate) fn size_of_var(node: &Node<'_>) -> Result<u64> {
    let said = node.ssh("df --output=size --block-size=GiB /var | tail -n 1")?;
    Ok(said.trim().trim_end_matches("GiB").parse()?)
}

/// The first four entries of the firmware's order are the node's own.
pub(crate) fn the_firmware_starts_it_four_times(node: &Node<'_>) -> Result<()> {
    let script = r#"set -e
        cd /sys/firmware/efi/efivars
        for number in $(cat BootOrder-* | tail -c +5 | od -An -v -t x2 -w2 | head -n 4 | tr a-f A-F); do
            cat "Boot$number"-* | tail -c +5 | tr -d '\0' | tr -c '[:print:]' ' ' | grep -o 'Trilith [0-9]'
        done"#;
    let names = node.ssh(script)?;
    let expected = ["Trilith 1", "Trilith 2", "Trilith 3", "Trilith 4"];
    let all = || node.ssh("ls /sys/firmware/efi/efivars");
    ensure!(names.lines().collect::<Vec<_>>() == expected, "the order is {names:?} of {:?}", all());
    Ok(())
}

/// What must stay the same, however often the node starts and is installed: machine ID, name, addresses, host key.
pub(crate) fn identity(node: &Node<'_>) -> Result<String> {
    node.ssh(
        "cat /etc/machine-id; hostname; ip -br address show scope global; \
         ssh-keygen -l -f /run/trilith/ssh/ssh_host_ed25519_key",
    )
}
