//! What the firmware says about the machine (SMBIOS, by the kernel's /sys/class/dmi).

use std::path::Path;

use trilith_core::sighting::Firmware;

/// Reads it. A machine without SMBIOS, or an agent that may not read it, has nothing to say; that is no failure.
pub(crate) fn read() -> Firmware {
    let folder = Path::new("/sys/class/dmi/id");
    let word =
        |name| std::fs::read_to_string(folder.join(name)).ok().map(|text| text.trim().to_owned());
    Firmware {
        vendor: word("sys_vendor"),
        product: word("product_name"),
        serial: word("product_serial"),
        uuid: word("product_uuid"),
    }
}
