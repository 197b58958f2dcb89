//! Stage `var`: mounts the one file system that is written to. On an installed disk that is a partition of that disk; a
//! machine that was started from a medium or the network has it on the disk that its bundle names for that, if it does,
//! and else in memory, so that nothing that was there before the boot is changed by it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use trilith_core::boot::{self, Boot, FOLDER, Partition, VAR_TYPE};

use crate::block::{Devices, News};
use crate::{exec, keep};

/// Where it is mounted while the root is not yet `/`.
const HERE: &str = "/sysroot/var";

/// The root's own unit for it, told what it is in this boot.
const UNIT: &str = "/run/systemd/system/var.mount.d/50-trilith.conf";

/// How long the partition of an installed disk may take to appear: the disk itself is there already.
const PATIENCE: Duration = Duration::from_secs(90);

/// How every /var is mounted.
const FLAGS: MsFlags = MsFlags::MS_NOATIME.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOSUID);

/// Carries out the stage.
pub fn run() -> Result<()> {
    let folder = Path::new(FOLDER);
    let text = fs::read_to_string(folder.join(boot::FILE)).context("stage root has not run")?;
    let boot: Boot = serde_yaml::from_str(&text).context("stage root has left another word")?;
    if folder.join(boot::LIVE).exists() {
        return live(&boot, folder);
    }
    let var = find(&boot)?;
    mount_disk(&format!("/dev/{}", var.name), Path::new(HERE))?;
    tell(&on_disk(&var.uuid))
}

/// Of a boot that leaves what was booted as it is.
fn live(boot: &Boot, folder: &Path) -> Result<()> {
    let (outcome, uuid) = keep::run(boot, Path::new(HERE));
    // The unit's standard error is the console.
    eprintln!("{}", outcome.text(boot.fetched));
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    put(boot::KEEP, &outcome.yaml()?)?;
    leave_the_esp_alone()?;
    if let Some(uuid) = uuid {
        return tell(&on_disk(&uuid));
    }
    put(boot::RAM, "")?;
    mount(Some("var"), HERE, Some("tmpfs"), FLAGS, Some("mode=0755,size=50%"))
        .context("cannot mount /var in memory")?;
    tell("What=var\nType=tmpfs\n")
}

/// Mounts a partition as /var, once it is whole.
pub(crate) fn mount_disk(device: &str, here: &Path) -> Result<()> {
    exec::run("/usr/lib/systemd/systemd-fsck", &[device])?;
    mount(Some(device), here, Some("ext4"), FLAGS, None::<&str>)
        .with_context(|| format!("cannot mount {device} as /var"))
}

fn on_disk(uuid: &str) -> String {
    format!("What=/dev/disk/by-partuuid/{uuid}\n")
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
///
/// # Errors
/// It does not come.
fn find(boot: &Boot) -> Result<Partition> {
    let devices = Devices::here();
    let news = News::listen(&devices)?;
    let end = Instant::now() + PATIENCE;
    loop {
        let mut all = devices.partitions()?.into_iter();
        if let Some(var) = all.find(|it| it.disk == boot.disk && it.kind == VAR_TYPE) {
            return Ok(var);
        }
        if !news.wait_until(end)? {
            bail!("there is no /var on {}", boot.disk);
        }
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
