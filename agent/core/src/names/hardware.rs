//! How hardware is told apart.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{require, text_value};

text_value! {
    /// A PCI address, `domain:bus:device.function`, as below /sys/bus/pci/devices: `0000:03:00.1`.
    PciPath, |path| require(
        is_pci_path(path),
        "a PCI path is domain:bus:device.function in lower-case hex, such as 0000:03:00.1",
    )
}

text_value! {
    /// A kernel driver's name, as /sys/class/net/NAME/device/driver shows: `ixgbe`, `virtio_net`.
    DriverName, |name| require(
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'),
        "a driver name is letters, digits, '_' and '-', such as ixgbe or virtio_net",
    )
}

text_value! {
    /// A disk's stable name below /dev/disk/by-id or /dev/disk/by-path, without the folder.
    DiskId, |id| require(
        !id.is_empty() && !id.contains('/') && id.chars().all(|c| c.is_ascii_graphic()),
        "a disk ID is a name below /dev/disk/by-id or /dev/disk/by-path, without the folder",
    )
}

text_value! {
    /// A disk's World Wide Name, as `lsblk --output WWN` shows it: `0x5000c500a1b2c3d4`, `eui.0025385b71b0a1c2`.
    Wwn, |wwn| require(
        ["0x", "naa.", "eui.", "uuid.", "nvme."].iter().any(|kind| wwn.starts_with(kind))
            && wwn.len() > 5
            && wwn.chars().all(|c| c.is_ascii_graphic()),
        "a WWN is as `lsblk --output WWN` shows it, such as 0x5000c500a1b2c3d4 or eui.0025385b71b0a1c2",
    )
}

text_value! {
    /// A machine's serial number as the firmware tells it (SMBIOS type 1).
    HardwareSerial, |serial| require(
        !serial.trim().is_empty() && serial.trim() == serial && !serial.contains(char::is_control),
        "a serial number is not empty and has no blanks around it",
    )
}

text_value! {
    /// A machine's UUID as the firmware tells it (SMBIOS type 1), in lower case.
    HardwareUuid, |uuid| require(
        is_uuid(uuid),
        "a UUID is 8-4-4-4-12 lower-case hex digits, such as 1b4e28ba-2fa1-11d2-883f-0016d3cca427",
    )
}

text_value! {
    /// The public endorsement key of a machine's TPM: ECC, NIST P-256 (TCG EK Credential Profile, template L-2), as an
    /// uncompressed point (SEC 1, 2.3.3) in base64.
    EndorsementKey, |key| require(
        is_point(key),
        "an endorsement key is what the console of a machine without a bundle shows behind `tpm:`, 88 characters",
    )
}

/// An uncompressed point of a curve of 256 bits: 4, then both coordinates.
fn is_point(text: &str) -> bool {
    BASE64_STANDARD.decode(text).is_ok_and(|point| point.len() == 65 && point[0] == 4)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

fn is_pci_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split([':', '.']).collect();
    let &[domain, bus, device, function] = parts.as_slice() else { return false };
    is_hex(domain, 4)
        && is_hex(bus, 2)
        && is_hex(device, 2)
        && matches!(function, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7")
        && path == format!("{domain}:{bus}:{device}.{function}")
}

/// 8-4-4-4-12 hex digits in lower case (RFC 9562, 4).
pub(crate) fn is_uuid(uuid: &str) -> bool {
    let parts: Vec<&str> = uuid.split('-').collect();
    parts.len() == 5 && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, n)| is_hex(part, n))
}
