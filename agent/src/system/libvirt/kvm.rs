//! Whether guests run under KVM, shown by one that does.
//!
//! The device may be there and guests still stop with "KVM internal error", as on some hosts that are machines
//! themselves; that it can be opened proves nothing. So QEMU starts its firmware without any disk: the firmware says
//! its name on a debug port, finds nothing to boot and resets the guest, which ends QEMU.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use trilith_core::libvirt::{Host, KVM, Kvm};

use crate::reconcile::chain;
use crate::system::exec;

/// The guest: 0.2 s and 35 MiB where it runs.
const GUEST: &[&str] = &[
    "-accel",
    "kvm",
    "-machine",
    "pc",
    "-m",
    "16",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-chardev",
    "stdio,id=debug",
    "-device",
    "isa-debugcon,iobase=0x402,chardev=debug",
    // Nothing to boot: reset at once, which is the end.
    "-boot",
    "reboot-timeout=0",
    "-no-reboot",
];

/// What the firmware says first.
const SPEAKS: &str = "SeaBIOS";

/// Remembers what was found of one device. Another one, or the same one made again when its module is loaded anew, is
/// looked at again.
#[derive(Default)]
pub(super) struct Prober {
    found: Option<(Device, Kvm)>,
}

/// What tells one device from another: its number, and when its entry was made or given to somebody.
type Device = (u64, i64, i64);

impl Prober {
    pub(super) async fn look(&mut self) -> Kvm {
        let Ok(about) = fs::metadata(KVM) else {
            return Kvm::Missing(flag("vmx").or_else(|| flag("svm")));
        };
        let device = (about.rdev(), about.ctime(), about.ctime_nsec());
        if let Some((known, kvm)) = &self.found
            && *known == device
        {
            return kvm.clone();
        }
        let kvm = guest().await;
        self.found = Some((device, kvm.clone()));
        kvm
    }
}

async fn guest() -> Kvm {
    match exec::run("qemu-system-x86_64", GUEST).await {
        Ok(said) if said.contains(SPEAKS) => Kvm::Works,
        Ok(_) => Kvm::Fails("its firmware says nothing".into()),
        Err(error) => Kvm::Fails(chain(&error).to_string()),
    }
}

/// What this node is.
pub(super) fn host() -> Host {
    // Written by systemd in every container (systemd's "Container Interface").
    if Path::new("/run/systemd/container").exists() {
        Host::Container
    } else if flag("hypervisor").is_some() {
        Host::Machine
    } else {
        Host::Hardware
    }
}

/// The flag, if the first processor has it.
fn flag(name: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    has_flag(&text, name).then(|| name.to_owned())
}

fn has_flag(cpuinfo: &str, name: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_whole_words_of_their_line() {
        let text = "model name\t: svm\nflags\t\t: fpu vmx_x hypervisor\nvmx flags\t: vnmi\n";
        assert!(has_flag(text, "hypervisor"));
        assert!(!has_flag(text, "vmx") && !has_flag(text, "svm"));
    }
}
