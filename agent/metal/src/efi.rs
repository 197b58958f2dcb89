//! What the boot loader tells through the firmware's variables (systemd's Boot Loader Interface).

use std::fs;

/// Where the kernel shows them: `NAME-VENDOR`, four bytes of attributes before the value.
const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// The vendor of the Boot Loader Interface.
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The UUID of the partition that the boot loader was started from. `None` where it was not started from a partition: an
/// optical drive, the network, a firmware that is no EFI.
pub(crate) fn loader_partition() -> Option<String> {
    let value = fs::read(format!("{VARIABLES}/LoaderDevicePartUUID-{VENDOR}")).ok()?;
    text(value.get(4..)?)
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
}
