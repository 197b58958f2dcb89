//! Stage `root`: finds the disk that was booted, tells the later stages and the agent of it, takes a medium's bundles into
//! memory, and opens the root by its hash.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use trilith_core::boot::{self, Boot, FOLDER, Loader, Partition, RootHash};

use crate::block::{Device, Devices, News};
use crate::{config, efi, exec};

/// The label of the ISO 9660 file system that makes a medium a disc.
const DISC: &str = "TRILITH";

/// Carries out the stage.
pub fn run() -> Result<()> {
    let arguments = fs::read_to_string("/proc/cmdline").context("no kernel command line")?;
    // An external command line replaces the UKI's own when Secure Boot is off: no root hash, no boot.
    let hash = RootHash::of_command_line(&arguments).context("there is no root hash")?;
    let boot = match fs::read_to_string(Path::new(FOLDER).join(boot::FETCHED)) {
        Ok(disk) => find(|partitions, _| Ok(boot::find_fetched(&hash, &disk, partitions)))?,
        Err(_) => find_booted(&hash)?,
    };
    tell(&boot)?;
    let device = |name: &str| format!("/dev/{name}");
    let (data, tree) = (device(&boot.data), device(&boot.hash));
    let options = "panic-on-corruption";
    let arguments = ["attach", "root", &data, &tree, &hash.to_string(), options];
    exec::run("/usr/lib/systemd/systemd-veritysetup", &arguments)
}

/// Finds the disk by what the boot loader says.
fn find_booted(hash: &RootHash) -> Result<Boot> {
    let loader = efi::loader();
    let mut discs = BTreeSet::new();
    eprintln!("the loader was started from {loader}");
    find(|partitions, devices| {
        if !matches!(loader, Loader::Partition(_)) {
            open_discs(&devices.all()?, &mut discs)?;
        }
        let found = boot::find(hash, &loader, partitions);
        // Nobody makes a new one in the place of what the node has kept: the unit's time-out ends the boot.
        let lacks_var = |boot: &Boot| boot::lacks_var(&boot.disk, partitions);
        if let Some(boot) = found.as_ref().filter(|boot| lacks_var(boot)) {
            eprintln!("{} has no /var, or not yet", boot.disk);
            return Ok(None);
        }
        Ok(found)
    })
}

/// Waits until the disk that was booted is there, as `look` sees it.
fn find(mut look: impl FnMut(&[Partition], &Devices) -> Result<Option<Boot>>) -> Result<Boot> {
    let devices = Devices::here();
    let news = News::listen(&devices)?;
    loop {
        if let Some(boot) = look(&devices.partitions()?, &devices)? {
            eprintln!("the root is on {}", boot.disk);
            return Ok(boot);
        }
        news.wait()?;
    }
}

/// Makes disks of discs: the kernel looks for no partitions on an optical drive, whose sectors are four times as large as
/// those that the partition table counts in.
fn open_discs(devices: &[Device], opened: &mut BTreeSet<String>) -> Result<()> {
    let is_ours = |device: &&Device| {
        device.name.starts_with("sr") && device.property("ID_FS_LABEL") == Some(DISC)
    };
    for disc in devices.iter().filter(is_ours) {
        if opened.insert(disc.name.clone()) {
            let device = format!("/dev/{}", disc.name);
            let arguments =
                ["--find", "--partscan", "--read-only", "--sector-size", "512", &device];
            exec::run("losetup", &arguments)?;
        }
    }
    Ok(())
}

/// Leaves word for the later stages and the agent.
fn tell(boot: &Boot) -> Result<()> {
    let folder = Path::new(FOLDER);
    let failed = || format!("cannot write into {FOLDER}");
    fs::DirBuilder::new().mode(0o700).recursive(true).create(folder).with_context(failed)?;
    if let Some(name) = &boot.config {
        let device = format!("/dev/{name}");
        let device = File::open(&device).with_context(|| format!("cannot open {device}"))?;
        let count = config::unpack(device, &folder.join(boot::MEDIUM))?;
        eprintln!("booted from a medium with {count} bundles");
    }
    if boot.leaves_no_trace() {
        fs::write(folder.join(boot::LIVE), "").with_context(failed)?;
    }
    fs::write(folder.join(boot::FILE), serde_yaml::to_string(boot)?).with_context(failed)
}
