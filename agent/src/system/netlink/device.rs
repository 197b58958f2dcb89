//! What /sys tells of a NIC: its PCI address and its driver.
//!
//! The way leads through /sys/bus, which shows the same in every network namespace; /sys/class/net shows
//! those of the namespace in which /sys was mounted.

use std::fs;
use std::path::Path;

/// A device as the kernel's message about its link names it.
#[derive(Debug, Default)]
pub(super) struct Device {
    /// The PCI address of the device, or of the one that it hangs on (virtio, USB).
    pub(super) pci: Option<String>,
    /// The driver's name.
    pub(super) driver: Option<String>,
}

/// Looks a device up by its bus and name, such as `pci` and `0000:03:00.0`, or `virtio` and `virtio0`.
pub(super) fn device(bus: &str, name: &str) -> Device {
    let path = Path::new("/sys/bus").join(bus).join("devices").join(name);
    let driver = fs::read_link(path.join("driver")).ok();
    let driver = driver.and_then(|to| Some(to.file_name()?.to_str()?.to_owned()));
    let pci = if bus == "pci" {
        Some(name.to_owned())
    } else {
        fs::canonicalize(path).ok().and_then(|path| pci_address(&path))
    };
    Device { pci, driver }
}

/// The nearest PCI device above, by the path below /sys/devices.
fn pci_address(path: &Path) -> Option<String> {
    let parts = path.iter().rev().filter_map(|part| part.to_str());
    parts.into_iter().find(|part| is_pci_address(part)).map(ToOwned::to_owned)
}

/// `0000:03:00.0`: domain, bus, device and function in hex.
fn is_pci_address(part: &str) -> bool {
    let shape = |n: usize, c: char| match n {
        4 | 7 => c == ':',
        10 => c == '.',
        _ => c.is_ascii_hexdigit(),
    };
    part.len() == 12 && part.chars().enumerate().all(|(n, c)| shape(n, c))
}

#[cfg(test)]
mod tests {
    use super::{Path, pci_address};

    #[test]
    fn the_nearest_pci_device_above_counts() {
        let virtio = Path::new("/sys/devices/pci0000:00/0000:00:1c.0/0000:03:00.0/virtio2");
        assert_eq!(pci_address(virtio).as_deref(), Some("0000:03:00.0"));
        assert_eq!(pci_address(Path::new("/sys/devices/platform/serial8250")), None);
    }
}
