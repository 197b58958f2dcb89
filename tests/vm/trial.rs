//! A release on trial: its system is on the ESP with tries in its name, as after an activation.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use trilith_core::gate::Stand;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::command::run;
use trilith_tests::installed::put_on_trial;
use trilith_tests::machine::BOOT;
use trilith_tests::network::Network;
use trilith_tests::node::Node;

/// The image with its system on trial.
struct OnTrial(TempDir);

impl OnTrial {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("trial").tempdir_in(artifact::target())?;
        let on_trial = Self(folder);
        let copy = ["--sparse=always", "--reflink=auto"];
        run(Command::new("cp").args(copy).arg(artifact::image()?).arg(on_trial.image()))?;
        put_on_trial(&on_trial.image())?;
        Ok(on_trial)
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("image.raw")
    }
}

/// Every system on the node's ESP.
fn systems(node: &Node<'_>) -> Result<String> {
    node.ssh(
        "set -e; mkdir -p /run/esp; mount -o ro /dev/disk/by-partuuid/$(cat \
         /sys/firmware/efi/efivars/LoaderDevicePartUUID-* | tail -c +5 | tr -d '\\0' | tr A-F a-f) /run/esp; \
         ls /run/esp/EFI/Linux; umount /run/esp",
    )
}

fn setting(node: &Node<'_>, unit: &str, name: &str) -> Result<String> {
    let said = node.ssh(&format!("systemctl show --value --property={name} {unit}"))?;
    Ok(said.trim().to_owned())
}

/// Once the node is up the system has a name without tries, and from the next boot on nothing limits its time.
#[test]
fn a_boot_on_trial_is_blessed_when_the_node_is_up() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    let on_trial = OnTrial::new()?;
    let mut node = Node::boot_image(&network, &cluster, 1, on_trial.image())?;
    node.wait_booted()?;
    let status = node.wait_status("the boot has proven itself", |status| {
        status.trial.as_ref().is_some_and(|said| said.stand == Stand::Proven)
    })?;
    ensure!(status.trial.is_some_and(|said| said.failed.is_empty()));
    let names = systems(&node)?;
    ensure!(names.lines().count() == 1 && !names.contains("+2-1"), "{names}");
    let limits = setting(&node, "multi-user.target", "JobTimeoutUSec")?;
    ensure!(limits == "15min", "a boot on trial that hangs starts again: {limits}");
    let target = node.ssh("systemctl is-active boot-complete.target")?;
    ensure!(target == "active\n", "{target}");
    let failed = node.ssh("systemctl list-units --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");

    node.restart()?;
    ensure!(node.status()?.trial.is_none(), "a proven boot is not on trial");
    let limits = setting(&node, "multi-user.target", "JobTimeoutUSec")?;
    ensure!(limits == "infinity", "{limits}");
    let action = setting(&node, "trilith-gate.service", "FailureAction")?;
    ensure!(action == "none", "{action}");
    ensure!(systems(&node)? == names, "nothing counts any more");
    Ok(())
}

/// An agent that hangs is never proven: when the time is over the machine starts again, and the boot loader has counted.
#[test]
fn a_boot_on_trial_that_does_not_prove_itself_starts_again() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    let on_trial = OnTrial::new()?;
    let mut node = Node::boot_image(&network, &cluster, 1, on_trial.image())?;
    node.wait_booted()?;
    node.wait_status("the boot has proven itself", |status| {
        status.trial.as_ref().is_some_and(|said| said.stand == Stand::Proven)
    })?;
    // On trial again, part of a session before that nobody can bring back.
    node.ssh(
        "set -e; /usr/lib/trilith/trilith-gate remember --limit 300 \
         --version $(. /etc/os-release; echo $IMAGE_VERSION); \
         sed -i 's/^parts:$/parts:\\n  bgp: [192.0.2.99]/' /var/lib/trilith-gate/before.yaml; \
         mkdir -p /run/esp; mount /dev/disk/by-partuuid/$(cat \
         /sys/firmware/efi/efivars/LoaderDevicePartUUID-* | tail -c +5 | tr -d '\\0' | tr A-F a-f) /run/esp; \
         cd /run/esp/EFI/Linux; for it in *.efi; do mv $it ${it%.efi}+3.efi; done; cd /; umount /run/esp",
    )?;
    node.reboot()?;
    node.console().wait("the session with 192.0.2.99 was established before", BOOT)?;
    node.machine().wait_reset(BOOT)?;
    let mark = node.console().mark();
    node.wait_booted_after(mark)?;
    let names = systems(&node)?;
    ensure!(names.contains("+1-2.efi"), "two tries are used: {names}");
    let why = node.ssh("cat /var/lib/trilith-gate/why.yaml")?;
    ensure!(why.contains("192.0.2.99"), "{why}");
    Ok(())
}
