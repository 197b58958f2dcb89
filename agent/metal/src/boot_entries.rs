//! The node's boot entries in the firmware: kept as [`trilith_core::efi::entries`] wants them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use trilith_core::boot::{Boot, FILE, FOLDER, Loader};
use trilith_core::efi::Partition;
use trilith_core::efi::entries::{Desired, Entries};
use trilith_core::subject::Subject as _;

use crate::block::Devices;
use crate::efi::{self, Variables};

/// Repairs the entries of the installed disk that was booted: firmware loses them when its settings are cleared, and puts
/// others before them. Does nothing in a boot from a medium or from the network.
///
/// # Errors
/// The initrd has left no word, or as for [`ensure`].
pub fn keep() -> Result<()> {
    let text = fs::read_to_string(Path::new(FOLDER).join(FILE)).context("no word of the initrd")?;
    let boot: Boot = serde_yaml::from_str(&text).context("the initrd has left another word")?;
    match efi::loader() {
        Loader::Partition(esp) if !boot.leaves_no_trace() => ensure(&boot.disk, &esp),
        _ => Ok(()),
    }
}

/// Makes or repairs the own entries, which lead to the ESP of this UUID on this disk (the kernel's name), before all others.
///
/// # Errors
/// There is no such partition, the firmware is no UEFI, or it does not take them.
pub fn ensure(disk: &str, esp: &str) -> Result<()> {
    reach(&Variables::here(), &desired(disk, esp, false)?)
}

/// The same, and the next start begins with them, whatever the firmware's order says by then.
pub fn next(disk: &str, esp: &str) -> Result<()> {
    reach(&Variables::here(), &desired(disk, esp, true)?)
}

fn desired(disk: &str, esp: &str, next: bool) -> Result<Desired> {
    let extent = Devices::here().once_seen(|it| it.extent(disk, &esp.to_lowercase()))?;
    let (number, start, size) = (extent.number, extent.start, extent.size);
    Ok(Desired { esp: Partition { number, start, size, uuid: esp.parse()? }, next })
}

/// Applies the plan, and looks again: some firmware says that it took what it did not.
fn reach(variables: &Variables, desired: &Desired) -> Result<()> {
    for step in Entries::plan(desired, &variables.entries()?).steps {
        eprintln!("firmware: {step}");
        variables.apply(&step)?;
    }
    let left = Entries::plan(desired, &variables.entries()?).steps.into_iter().next();
    left.map_or(Ok(()), |step| Err(anyhow::anyhow!("it did not {step}")))
        .context("the firmware has not kept the boot entries")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn esp(uuid: &str) -> Desired {
        let uuid = uuid.parse().unwrap();
        Desired { esp: Partition { number: 1, start: 256, size: 0x8_0000, uuid }, next: true }
    }

    /// In a folder of plain files, which is how the kernel shows the variables.
    #[test]
    fn entries_are_made_kept_and_moved_to_another_disk() {
        let folder = tempfile::tempdir().unwrap();
        let variables = Variables::of(folder.path());
        let names = || {
            let all = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<String> =
                all.map(|it| it.unwrap().file_name().to_string_lossy()[..8].to_owned()).collect();
            names.sort();
            names
        };
        reach(&variables, &esp("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")).unwrap();
        let expected = ["Boot0000", "Boot0001", "Boot0002", "Boot0003", "BootNext", "BootOrde"];
        assert_eq!(names(), expected);
        let order = format!("BootOrder-{}", trilith_core::efi::GLOBAL);
        let order = fs::read(folder.path().join(order)).unwrap();
        assert_eq!(order, [7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0]);

        let other = esp("1b1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9");
        reach(&variables, &other).unwrap();
        assert_eq!(names(), expected);
        assert!(Entries::plan(&other, &variables.entries().unwrap()).steps.is_empty());
    }
}
