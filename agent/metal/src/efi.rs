//! The firmware's variables: what the boot loader tells in them (systemd's Boot Loader Interface), what was booted, and the
//! boot entries.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use trilith_core::boot::Loader;
use trilith_core::efi::entries::{Observed, Step, variable};
use trilith_core::efi::{BootedFrom, GLOBAL, LoadOption};

/// Where the kernel shows them: `NAME-VENDOR`, four bytes of attributes before the value.
const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// The vendor of the Boot Loader Interface.
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Kept without power, and seen by the firmware and by the running system: `NON_VOLATILE`, `BOOTSERVICE_ACCESS`,
/// `RUNTIME_ACCESS` (UEFI specification 2.10, 8.2).
const KEPT: u32 = 7;

/// What the boot loader tells of where it was started from.
pub fn loader() -> Loader {
    let read = |name: &str| Variables::here().read(name, LOADER).ok().flatten();
    match read("LoaderDevicePartUUID").as_deref().and_then(text) {
        Some(uuid) => Loader::Partition(uuid),
        // Of systemd's loader and of its stub: the kernel may have been started without a loader.
        None if read("LoaderFirmwareInfo").is_some() => Loader::NoPartition,
        None => Loader::Silent,
    }
}

/// The path on the ESP of the system that was started, if the boot loader counts its tries: with backslashes, as the firmware
/// writes paths.
///
/// # Errors
/// The variable is there and cannot be read.
pub fn counted() -> Result<Option<String>> {
    let value = Variables::here().read("LoaderBootCountPath", LOADER)?;
    Ok(value.as_deref().and_then(text))
}

/// What the firmware started in this boot. `None` if it does not say.
pub fn booted_from() -> Option<BootedFrom> {
    let variables = Variables::here();
    let current = variables.number("BootCurrent").ok()??;
    let value = variables.read(&variable(current), GLOBAL).ok()??;
    LoadOption::read(&value).as_ref().map(BootedFrom::of)
}

/// The firmware's variables, as files.
#[derive(Debug, Clone)]
pub struct Variables(PathBuf);

impl Variables {
    /// This machine's.
    pub fn here() -> Self {
        Self(VARIABLES.into())
    }

    /// Those in another folder.
    pub fn of(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The boot entries and their order.
    ///
    /// # Errors
    /// The firmware is no UEFI, or its variables cannot be read.
    pub fn entries(&self) -> Result<Observed> {
        let failed = || format!("cannot read the firmware's variables in {}", self.0.display());
        let mut observed = Observed::default();
        for found in fs::read_dir(&self.0).with_context(failed)? {
            let name = found.with_context(failed)?.file_name();
            let Some(number) = name.to_str().and_then(entry) else { continue };
            // One that has just gone is not there.
            let Some(value) = self.read(&variable(number), GLOBAL)? else { continue };
            observed.entries.insert(number, LoadOption::read(&value));
        }
        let order = self.read("BootOrder", GLOBAL)?.unwrap_or_default();
        observed.order =
            order.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        observed.next = self.number("BootNext")?;
        Ok(observed)
    }

    /// Carries out one step.
    ///
    /// # Errors
    /// The firmware does not take it: it may have no room left.
    pub fn apply(&self, step: &Step) -> Result<()> {
        let done = match step {
            Step::Write(number, option) => self.write(&variable(*number), &option.write()),
            Step::Order(order) => {
                let value: Vec<u8> = order.iter().flat_map(|it| it.to_le_bytes()).collect();
                self.write("BootOrder", &value)
            }
            Step::Next(number) => self.write("BootNext", &number.to_le_bytes()),
            Step::Remove(number) => self.remove(&variable(*number)),
        };
        done.with_context(|| format!("cannot {step}"))
    }

    fn at(&self, name: &str, vendor: &str) -> PathBuf {
        self.0.join(format!("{name}-{vendor}"))
    }

    /// A variable's value; `None` if there is no such variable.
    ///
    /// # Errors
    /// Reading fails.
    pub fn read(&self, name: &str, vendor: &str) -> Result<Option<Vec<u8>>> {
        match fs::read(self.at(name, vendor)) {
            Ok(value) => Ok(value.get(4..).map(<[u8]>::to_vec)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read the variable {name}")),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u16>> {
        let value = self.read(name, GLOBAL)?;
        Ok(value.and_then(|value| value.try_into().ok()).map(u16::from_le_bytes))
    }

    /// The kernel wants attributes and value in one write.
    fn write(&self, name: &str, value: &[u8]) -> Result<()> {
        let path = self.at(name, GLOBAL);
        unlock(&path)?;
        let bytes = [&KEPT.to_le_bytes()[..], value].concat();
        let mut file = File::options().write(true).create(true).truncate(false).open(&path)?;
        Ok(file.write_all(&bytes)?)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.at(name, GLOBAL);
        unlock(&path)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The kernel marks variables as immutable that a machine may not start without, so that nobody removes them by accident.
fn unlock(path: &Path) -> Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Elsewhere than in efivarfs there may be no such flags.
    let Ok(flags) = ioctl_getflags(&file) else { return Ok(()) };
    if flags.contains(IFlags::IMMUTABLE) {
        ioctl_setflags(&file, flags - IFlags::IMMUTABLE).context("it cannot be unlocked")?;
    }
    Ok(())
}

/// The number in `Boot000A-VENDOR`.
fn entry(name: &str) -> Option<u16> {
    let digits = name.strip_suffix(GLOBAL)?.strip_suffix('-')?.strip_prefix("Boot")?;
    let number = u16::from_str_radix(digits, 16).ok()?;
    // `BootOrder` and `Boot1` are no entries.
    (variable(number) == format!("Boot{digits}")).then_some(number)
}

/// UTF-16, little endian, up to its end or a zero.
fn text(bytes: &[u8]) -> Option<String> {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16(&units).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_with_zero() {
        assert_eq!(text(b"a\0B\0\0\0c\0"), Some("aB".into()));
        assert_eq!(text(b"a\0B\0"), Some("aB".into()));
        assert_eq!(text(b"\0\0"), None);
    }

    #[test]
    fn entries_have_four_digits() {
        let name = |text: &str| entry(&format!("{text}-{GLOBAL}"));
        assert_eq!(name("Boot000A"), Some(10));
        assert_eq!(name("BootFFFF"), Some(0xffff));
        for other in ["BootOrder", "Boot1", "Boot000a", "Boot00001", "BootNext", "Key0000"] {
            assert_eq!(name(other), None, "{other}");
        }
        assert_eq!(entry(&format!("Boot0001-{LOADER}")), None);
    }
}
