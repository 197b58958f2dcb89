//! Stage `var`: mounts the one file system that is written to. On an installed disk that is a partition of that disk; on a
//! medium it is memory, so that nothing that was there before the boot is changed by it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use trilith_core::boot::{self, Boot, FOLDER, Partition, VAR_TYPE};

use crate::block::{Devices, News};
use crate::exec;

/// Where it is mounted while the root is not yet `/`.
const HERE: &str = "/sysroot/var";

/// The root's own unit for it, told what it is in this boot.
const UNIT: &str = "/run/systemd/system/var.mount.d/50-trilith.conf";

/// Carries out the stage.
pub fn run() -> Result<()> {
    let folder = Path::new(FOLDER);
    let text = fs::read_to_string(folder.join(boot::FILE)).context("stage root has not run")?;
    let boot: Boot = serde_yaml::from_str(&text).context("stage root has left another word")?;
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    if folder.join(boot::RAM).exists() {
        mount(Some("var"), HERE, Some("tmpfs"), flags, Some("mode=0755,size=50%"))
            .context("cannot mount /var in memory")?;
        leave_the_esp_alone()?;
        return tell("What=var\nType=tmpfs\n");
    }
    let var = find(&boot)?;
    let device = format!("/dev/{}", var.name);
    exec::run("/usr/lib/systemd/systemd-fsck", &[&device])?;
    mount(Some(device.as_str()), HERE, Some("ext4"), flags, None::<&str>)
        .with_context(|| format!("cannot mount {device} as /var"))?;
    tell(&format!("What=/dev/disk/by-partuuid/{}\n", var.uuid))
}

/// Nothing checks, mounts or writes to a medium's ESP, which the root would do of itself.
fn leave_the_esp_alone() -> Result<()> {
    let units = Path::new("/run/systemd/system");
    let failed = || format!("cannot write into {}", units.display());
    fs::create_dir_all(units).with_context(failed)?;
    for unit in ["boot.automount", "boot.mount", "efi.automount", "efi.mount"] {
        symlink("/dev/null", units.join(unit)).with_context(failed)?;
    }
    Ok(())
}

/// Waits until the partition is there: it may just have been made.
fn find(boot: &Boot) -> Result<Partition> {
    let devices = Devices::here();
    let news = News::listen(&devices)?;
    loop {
        let mut all = devices.partitions()?.into_iter();
        if let Some(var) = all.find(|it| it.disk == boot.disk && it.kind == VAR_TYPE) {
            return Ok(var);
        }
        news.wait()?;
    }
}

/// Tells the root's unit: two disks may have a partition of this label.
fn tell(what: &str) -> Result<()> {
    let failed = || format!("cannot write {UNIT}");
    if let Some(folder) = Path::new(UNIT).parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    fs::write(UNIT, format!("[Mount]\n{what}")).with_context(failed)
}
