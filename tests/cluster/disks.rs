//! A disk that is not blank is left alone until it is named, what was made on a disk by this cluster is never
//! overwritten, and a power cut while an OSD is made leaves nothing to a person.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use trilith_tests::command::run;
use trilith_tests::lab::{Container, Lab};
use trilith_tests::quorums::{PATIENCE, ceph, coordinators, subject};

use crate::say;

/// The disk's name below /dev/disk/by-id, by which the cluster file names it.
const NAME: &str = "lab-osd0";

/// In place of the program that makes an OSD, for one boot: it never ends.
const HOLD: &str = "/run/hold";

/// A node's disk, as the host sees it.
pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    fn of(node: &Container<'_>) -> Result<Self> {
        Ok(Self { path: node.disks().next().context("no disk")?.to_owned() })
    }

    /// Somebody else's data is on the node's disk.
    pub(crate) fn used(node: &Container<'_>) -> Result<(Self, Vec<u8>)> {
        let disk = Self::of(node)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.path))?;
        let content = disk.begin()?;
        Ok((disk, content))
    }

    /// The first MiB.
    fn begin(&self) -> Result<Vec<u8>> {
        let mut content = vec![0; 1 << 20];
        File::open(&self.path)?.read_exact(&mut content)?;
        Ok(content)
    }

    fn overwrite(&self, content: &[u8]) -> Result<()> {
        let disk = File::options().write(true).open(&self.path)?;
        disk.write_all_at(content, 0)?;
        Ok(disk.sync_all()?)
    }

    /// Whether an OSD's label has these words.
    fn label_has(&self, words: &[u8]) -> Result<()> {
        let begin = self.begin()?;
        let found = begin[..LABEL].windows(words.len()).any(|some| some == words);
        ensure!(found, "the label does not have {}", String::from_utf8_lossy(words));
        Ok(())
    }
}

/// The length of an OSD's label.
const LABEL: usize = 4096;
/// The first that is written into it.
const FIRST: &[u8] = b"bluestore block device";
/// The last.
const LAST: &[u8] = b"ready";

/// The disk of this node was used before, and the cluster has formed without it.
pub(crate) fn disks_are_taken_by_name_and_outlive_power_cuts(
    lab: &Lab,
    node: &Container<'_>,
    (disk, before): &(Disk, Vec<u8>),
) -> Result<()> {
    let begin = Instant::now();
    left_alone(node, "not blank: ext4")?;
    ensure!(disk.begin()? == *before, "it was written to");
    hold(node)?;
    lab.cluster().edit(|file| {
        file["node_defaults"]["osds"][0]["overwrite"] = vec![NAME].into();
    })?;
    lab.deliver_to(node)?;
    node.until("its OSD is about to be made", PATIENCE, || {
        node.shell(&format!("test -e {HOLD}/reached"))
    })?;
    say("a disk that is named is overwritten", begin);
    let monitor = lab.node(coordinators(lab)?[0])?;
    ensure!(osds(&monitor)?.iter().filter(|state| state.contains(&"new".into())).count() == 1);
    lab.kill(node.name())?;
    for (what, words) in [("its OSD has begun to be made", FIRST), ("its OSD is made", LAST)] {
        lab.start(node.name())?;
        node.until(what, PATIENCE, || disk.label_has(words))?;
        lab.kill(node.name())?;
        ensure!(
            words == LAST || disk.label_has(LAST).is_err(),
            "it was made before the power went"
        );
    }
    lab.start(node.name())?;
    ceph::osds_are_active(node)?;
    ceph::storage_serves(lab, &coordinators(lab)?, lab.names().len())?;
    let osds = osds(&monitor)?;
    ensure!(osds.len() == lab.names().len(), "some are left over: {osds:?}");
    say("power cut three times while an OSD was made, made all the same", begin);
    a_broken_label_is_no_blank_disk(lab, node, disk)
}

/// Also though the cluster file still says that the disk may be overwritten.
fn a_broken_label_is_no_blank_disk(lab: &Lab, node: &Container<'_>, disk: &Disk) -> Result<()> {
    let begin = Instant::now();
    lab.kill(node.name())?;
    let whole = disk.begin()?;
    // The label, and the block after it that tells the same.
    disk.overwrite(&[0xa5; 2 * LABEL])?;
    let broken = disk.begin()?;
    lab.start(node.name())?;
    left_alone(node, "of this cluster, and its label cannot be read")?;
    ensure!(disk.begin()? == broken, "it was written to");
    disk.overwrite(&whole[..2 * LABEL])?;
    ceph::osds_are_active(node)?;
    say("a broken label left alone, and mended", begin);
    Ok(())
}

fn left_alone(node: &Container<'_>, reason: &str) -> Result<()> {
    node.wait_status(&format!("its disk is left alone, being {reason}"), PATIENCE, |status| {
        let state = subject(status, "osds").map(|osds| osds.state.to_string());
        state.is_ok_and(|state| state.contains(reason) && state.contains("left alone"))
    })
    .map(drop)
}

/// Until it is switched off, the node makes an OSD only as far as the disk's first byte.
fn hold(node: &Container<'_>) -> Result<()> {
    let drop_in = "/run/systemd/system/trilith-osd@.service.d";
    node.shell(&format!(
        "mkdir -p {HOLD} {drop_in}
         printf '#!/bin/sh\n: > {HOLD}/reached\nexec sleep infinity\n' > {HOLD}/ceph-osd
         chmod +x {HOLD}/ceph-osd
         printf '[Service]\nEnvironment=PATH={HOLD}:/usr/sbin:/usr/bin:/sbin:/bin\n' > {drop_in}/hold.conf
         systemctl daemon-reload"
    ))
    .map(drop)
}

/// The states of every OSD that Ceph knows.
fn osds(monitor: &Container<'_>) -> Result<Vec<Vec<String>>> {
    let map = ceph::ask(monitor, "osd dump")?;
    let all = map["osds"].as_array().context("no OSDs")?;
    let states = |osd: &serde_json::Value| {
        let states = osd["state"].as_array().into_iter().flatten();
        states.filter_map(|state| Some(state.as_str()?.to_owned())).collect()
    };
    Ok(all.iter().map(states).collect())
}
