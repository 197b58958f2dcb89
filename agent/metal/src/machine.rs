//! What tells this machine from others, as an initrd sees it: nobody has changed the address of a NIC yet.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, iter};

use trilith_core::identity::Machine;
use trilith_core::names::MacAddr;

/// Where the kernel shows what the firmware says of the machine (SMBIOS type 1).
pub const FIRMWARE: &str = "/sys/class/dmi/id";
/// Where it shows the network interfaces: in an initrd, all Ethernet ones are NICs.
const LINKS: &str = "/sys/class/net";

/// What is known by now: a NIC may still be to come. `firmware` is [`FIRMWARE`], or what stands for it. No TPM is asked.
pub fn read(firmware: &Path) -> Machine {
    // udev gives NICs other names meanwhile. There are only so many of them.
    let macs = iter::repeat_with(macs).find_map(|macs| macs);
    Machine {
        macs: macs.unwrap_or_default(),
        serial: word(&firmware.join("product_serial")),
        uuid: word(&firmware.join("product_uuid")).map(|uuid| uuid.to_lowercase()),
        tpm: None,
    }
}

/// The addresses of the NICs. `None`: one was there no more under the name by which it was listed.
fn macs() -> Option<BTreeSet<MacAddr>> {
    let mut macs = BTreeSet::new();
    // Links are folders behind a symbolic link. `bonding_masters`, a file beside them, is none.
    let entries = fs::read_dir(LINKS).into_iter().flatten().filter_map(Result::ok);
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_file()));
    for link in links {
        let (kind, address) = (link.path().join("type"), link.path().join("address"));
        // ARPHRD_ETHER, linux/if_arp.h
        if word(&kind)? == "1" {
            macs.extend(MacAddr::try_from(word(&address)?).ok());
        }
    }
    Some(macs)
}

fn word(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod netns {
    use std::io::Write as _;
    use std::thread;

    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::exec;

    #[test]
    fn a_nic_is_seen_while_udev_gives_it_other_names() {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        // It shows the network of who mounts it.
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
        let nic = "link add nic0 address 52:54:00:00:01:00 type veth peer name other";
        exec::run("ip", &nic.split(' ').collect::<Vec<_>>()).unwrap();
        let mut names = tempfile::NamedTempFile::new().unwrap();
        for number in 0..2000 {
            writeln!(names, "link set nic{number} name nic{}", number + 1).unwrap();
        }
        let udev = thread::spawn(move || exec::run("ip", &["-batch", names.path().to_str()?]).ok());
        let mac = MacAddr([0x52, 0x54, 0, 0, 1, 0]);
        while !udev.is_finished() {
            assert!(read(Path::new("/nowhere")).macs.contains(&mac));
        }
        assert!(udev.join().unwrap().is_some());
    }
}
