//! What tells this machine from others, as an initrd sees it: nobody has changed the address of a NIC yet.

use std::fs;
use std::path::Path;

use trilith_core::identity::Machine;
use trilith_core::names::MacAddr;

/// Where the kernel shows what the firmware says of the machine (SMBIOS type 1).
pub const FIRMWARE: &str = "/sys/class/dmi/id";
/// Where it shows the network interfaces: in an initrd, all Ethernet ones are NICs.
const LINKS: &str = "/sys/class/net";

/// What is known by now: a NIC may still be to come. `firmware` is [`FIRMWARE`], or what stands for it. No TPM is asked.
pub fn read(firmware: &Path) -> Machine {
    let links = fs::read_dir(LINKS).into_iter().flatten().filter_map(Result::ok);
    let mac = |link: fs::DirEntry| {
        // ARPHRD_ETHER, linux/if_arp.h
        let is_ethernet = word(&link.path().join("type"))? == "1";
        MacAddr::try_from(word(&link.path().join("address"))?).ok().filter(|_| is_ethernet)
    };
    Machine {
        macs: links.filter_map(mac).collect(),
        serial: word(&firmware.join("product_serial")),
        uuid: word(&firmware.join("product_uuid")).map(|uuid| uuid.to_lowercase()),
        tpm: None,
    }
}

fn word(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
