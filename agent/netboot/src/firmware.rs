//! What the firmware says about this start: whether it was from the network.

use std::fs;
use std::path::Path;

/// The firmware's own variables (UEFI, 3.3).
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// systemd's Boot Loader Interface.
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Messaging device path, in it a MAC address, and the end of everything (UEFI, 10.3).
const MESSAGING: u8 = 3;
const MAC_ADDRESS: u8 = 11;
const END: u8 = 0x7f;

/// Whether the machine was started from the network: the boot entry that the firmware took names a NIC, and the UKI did
/// not come from a partition. A disc has no partition to name either, but no NIC.
///
/// `variables` is where the kernel shows them.
pub(crate) fn started_from_network(variables: &Path) -> bool {
    // Four bytes of attributes come first.
    let read = |name: String, vendor: &str| {
        let value = fs::read(variables.join(format!("{name}-{vendor}"))).ok()?;
        value.get(4..).map(<[u8]>::to_vec)
    };
    if read("LoaderDevicePartUUID".into(), LOADER).is_some() {
        return false;
    }
    let entry = || {
        let number = read("BootCurrent".into(), GLOBAL)?;
        let number = u16::from_le_bytes(number.get(..2)?.try_into().ok()?);
        read(format!("Boot{number:04X}"), GLOBAL)
    };
    entry().is_some_and(|entry| names_a_nic(&entry).unwrap_or(false))
}

/// `EFI_LOAD_OPTION`: attributes, the length of the paths, a name in UTF-16 with a zero at its end, the paths (UEFI,
/// 3.1.3). `None` if it is cut off.
fn names_a_nic(entry: &[u8]) -> Option<bool> {
    let length = usize::from(u16::from_le_bytes(entry.get(4..6)?.try_into().ok()?));
    let name = entry.get(6..)?.chunks_exact(2).position(|unit| unit == [0, 0])?;
    let start = 6 + (name + 1) * 2;
    let mut path = entry.get(start..start + length)?;
    while let [kind, part, low, high, ..] = *path {
        match (kind, part) {
            (MESSAGING, MAC_ADDRESS) => return Some(true),
            (END, _) => break,
            _ => path = path.get(usize::from(u16::from_le_bytes([low, high])).max(4)..)?,
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A boot entry with these nodes of a device path: (type, subtype, what follows).
    fn entry(nodes: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut path = Vec::new();
        for (kind, part, rest) in nodes {
            path.extend([*kind, *part]);
            path.extend(u16::try_from(rest.len() + 4).unwrap().to_le_bytes());
            path.extend(*rest);
        }
        let mut entry = 1u32.to_le_bytes().to_vec();
        entry.extend(u16::try_from(path.len()).unwrap().to_le_bytes());
        entry.extend("UEFI PXEv4\0".encode_utf16().flat_map(u16::to_le_bytes));
        entry.extend(path);
        entry
    }

    const PCI: (u8, u8, &[u8]) = (1, 1, &[0, 2]);
    const NIC: (u8, u8, &[u8]) = (MESSAGING, MAC_ADDRESS, &[0x52; 33]);
    const DISC: (u8, u8, &[u8]) = (MESSAGING, 18, &[0; 6]);
    const LAST: (u8, u8, &[u8]) = (END, 0xff, &[]);

    #[test]
    fn a_boot_entry_names_a_nic_or_not() {
        assert_eq!(names_a_nic(&entry(&[PCI, NIC, LAST])), Some(true));
        assert_eq!(names_a_nic(&entry(&[PCI, DISC, LAST])), Some(false));
        assert_eq!(names_a_nic(&entry(&[PCI, LAST, NIC])), Some(false), "behind the end");
        let whole = entry(&[PCI, NIC, LAST]);
        for cut in 0..whole.len() {
            assert_ne!(names_a_nic(&whole[..cut]), Some(true));
        }
    }

    #[test]
    fn the_entry_that_was_taken_counts_unless_a_partition_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, vendor: &str, value: &[u8]| {
            let bytes = [&[7, 0, 0, 0], value].concat();
            fs::write(folder.path().join(format!("{name}-{vendor}")), bytes).unwrap();
        };
        let started = || started_from_network(folder.path());
        assert!(!started(), "no firmware");
        write("BootCurrent", GLOBAL, &[0x1a, 0]);
        assert!(!started(), "no entry");
        write("Boot001A", GLOBAL, &entry(&[PCI, NIC, LAST]));
        assert!(started());
        write("LoaderDevicePartUUID", LOADER, b"x\0");
        assert!(!started(), "a partition");
    }
}
