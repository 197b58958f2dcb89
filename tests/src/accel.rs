//! Whether KVM truly works here.
//!
//! `/dev/kvm` may exist and guests still stop with "KVM internal error" (nested or emulated hosts), so the
//! only proof is a guest that runs: the firmware that the tests use, until its boot manager speaks.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::artifact;
use crate::machine::{FIRMWARE, in_tools};

/// What executes a machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor itself.
    Kvm,
    /// QEMU, ten to twenty times slower.
    Tcg,
}

impl Accel {
    /// Finds out, once per boot of the host: the answer is kept below target/.
    pub fn find() -> Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("no boot ID")?;
        let kept = artifact::machines()?.join("accel");
        let known = fs::read_to_string(&kept).unwrap_or_default();
        if let Some(answer) = known.strip_prefix(&boot) {
            return Ok(if answer == "kvm" { Self::Kvm } else { Self::Tcg });
        }
        let works = Path::new("/dev/kvm").exists() && firmware_speaks()?;
        fs::write(&kept, boot + if works { "kvm" } else { "tcg" })?;
        Ok(if works { Self::Kvm } else { Self::Tcg })
    }

    /// QEMU's arguments for it.
    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "max"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

/// Starts the firmware under KVM and reads its console to the end, or to the boot manager's first word.
fn firmware_speaks() -> Result<bool> {
    let mut guest = in_tools("timeout", &[])?
        .args(["--kill-after=1", "20", "qemu-system-x86_64"])
        .args(Accel::Kvm.arguments())
        .args([
            "-machine",
            "q35",
            "-m",
            "256",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ])
        .args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}")])
        .args(["-serial", "stdio", "-no-reboot"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start QEMU")?;
    let mut stdout = guest.stdout.take().context("QEMU has no stdout")?;
    let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
    let speaks = loop {
        match stdout.read(&mut buffer) {
            Ok(size @ 1..) => said.extend_from_slice(&buffer[..size]),
            _ => break false,
        }
        if String::from_utf8_lossy(&said).contains("BdsDxe") {
            break true;
        }
    };
    let _gone = guest.kill();
    let _status = guest.wait();
    Ok(speaks)
}
