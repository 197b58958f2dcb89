//! What tells this machine from others.

use std::path::Path;

use trilith_core::names::MacAddr;
use trilith_core::netboot::Asking;

use crate::links;

/// What it says about itself to a server; the key is still empty.
pub(crate) fn read(firmware: &Path) -> Asking {
    let word = |name: &str| {
        let text = std::fs::read_to_string(firmware.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    // Nobody has changed an address yet: these are the ones that the NICs came with.
    let macs = links::nics().into_iter().filter_map(|nic| MacAddr::try_from(nic.mac).ok());
    Asking {
        key: String::new(),
        macs: macs.collect(),
        serial: word("product_serial"),
        uuid: word("product_uuid"),
    }
}
