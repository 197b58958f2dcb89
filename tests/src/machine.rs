//! A virtual machine in QEMU: UEFI firmware, disks, NICs on taps, a serial console. It can be switched off and on again, and
//! keeps its disks and its firmware's variables.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::artifact;
use crate::console::Console;
use crate::qmp::Qmp;

mod disk; // its disks
mod hardware; // what stays of it when it is off
mod live; // what happens to it while it runs
mod nic; // its network cards
mod tpm; // its TPM

pub use disk::{Bus, Content, Disk};
pub use hardware::{Hardware, Spec};
pub use nic::{Nic, Place};
use tpm::Tpm;

/// UEFI firmware, by its path in the tools tree.
pub(crate) const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// The same with Secure Boot.
const SECURE_FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
/// Its variables, as they leave the factory: without keys, in setup mode.
const VARIABLES: &str = "usr/share/OVMF/OVMF_VARS_4M.fd";

/// The hardware UUID of every machine here. Its serial number is its name.
pub const UUID: &str = "7f9c2ba4-e88f-4b1d-9c3a-5d0e6f7a8b9c";

/// How long a machine may take for anything that includes a boot. Without KVM it takes minutes.
pub const BOOT: Duration = Duration::from_mins(15);
/// How long a running machine may take to react.
pub const REACTION: Duration = Duration::from_mins(3);

/// A running machine. It ends when this value goes out of scope, and when this process dies.
#[derive(Debug)]
pub struct Machine {
    running: Running,
    hardware: Hardware,
}

/// What a machine has only while it runs.
#[derive(Debug)]
struct Running {
    qemu: Child,
    console: Console,
    qmp: Qmp,
    _tpm: Option<Tpm>,
}

impl Machine {
    /// Puts a new machine together and switches it on.
    pub fn start(spec: Spec) -> Result<Self> {
        Hardware::assemble(spec)?.start()
    }

    fn switch_on(hardware: Hardware, more: &[&str]) -> Result<Self> {
        let name = hardware.spec.log.as_ref().unwrap_or(&hardware.spec.name);
        let log = artifact::machines()?.join(format!("{name}.console.log"));
        // A machine that was on before goes on with its log; another test's log of the same name is overwritten.
        let socket = hardware.folder().join("qmp");
        let fresh = fs::remove_file(&socket).is_err();
        let opened =
            OpenOptions::new().create(true).write(true).truncate(fresh).append(!fresh).open(&log);
        let log: File = opened.with_context(|| format!("cannot write {}", log.display()))?;
        let tpm = hardware.spec.tpm.then(|| Tpm::start(hardware.folder())).transpose()?;
        let mut qemu = hardware.qemu()?.args(more).spawn().context("cannot start QEMU")?;
        let console = Console::read(qemu.stdout.take().context("QEMU has no stdout")?, log);
        let qmp = console.until("QEMU listens", REACTION, || Qmp::connect(&socket));
        let qmp = qmp.map_err(|error| {
            end(&mut qemu);
            let complaints = fs::read_to_string(hardware.folder().join("stderr"));
            error.context(format!("QEMU says: {}", complaints.unwrap_or_default()))
        })?;
        Ok(Self { running: Running { qemu, console, qmp, _tpm: tpm }, hardware })
    }

    /// Takes its power away (SIGKILL). It can be started again.
    pub fn kill(self) -> Hardware {
        // Dropped, and so ended, before the hardware is handed out.
        let Self { running: _, hardware } = self;
        hardware
    }

    /// What it is made of.
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// What it says on its serial console.
    pub fn console(&self) -> &Console {
        &self.running.console
    }

    /// Types on its serial console, as a person at a terminal, or as the terminal itself.
    pub fn keyboard(&mut self) -> Result<&mut ChildStdin> {
        self.running.qemu.stdin.as_mut().context("QEMU has no stdin")
    }

    /// A picture of its screen, as PNG.
    pub fn screenshot(&mut self, path: &Path) -> Result<()> {
        let here = self.screendump("png")?;
        fs::copy(here, path).with_context(|| format!("cannot write {}", path.display())).map(drop)
    }

    /// How much of its screen is lit, in pixels.
    pub fn lit(&mut self) -> Result<usize> {
        let picture = fs::read(self.screendump("ppm")?)?;
        // Three bytes for each, after a head of a few bytes (ppm(5)).
        Ok(picture.chunks_exact(3).filter(|pixel| pixel.iter().any(|part| *part > 0x40)).count())
    }

    /// QEMU sees the machine's folder, and not where a picture is wanted.
    fn screendump(&mut self, format: &str) -> Result<PathBuf> {
        let here = self.folder().join(format!("screen.{format}"));
        self.qmp().command("screendump", &json!({ "filename": here, "format": format }))?;
        Ok(here)
    }

    /// Presses keys of its keyboard together, by QEMU's names (`QKeyCode`).
    pub fn press_keys(&mut self, keys: &[&str]) -> Result<()> {
        let keys: Vec<_> = keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.qmp().command("send-key", &json!({ "keys": keys })).map(drop)
    }

    /// QEMU's control socket.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.running.qmp
    }

    /// A folder for files that belong to this machine; it goes when the machine goes.
    pub fn folder(&self) -> &Path {
        self.hardware.folder()
    }

    /// QEMU's process ID: its network namespace is the machine's.
    pub fn pid(&self) -> u32 {
        self.running.qemu.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.qemu);
    }
}

/// A port of PCI Express that something can be plugged into while the machine runs.
fn slot(number: usize) -> String {
    format!("-device pcie-root-port,id=slot{number},chassis={number},slot={number}")
}

/// A command that runs a program of the tools tree: it sees that tree, the host's devices, and `folders`.
///
/// It keeps the caller's network namespace, and dies with its parent.
pub fn in_tools(program: &str, folders: &[&Path]) -> Result<Command> {
    in_tools_with(program, folders, &[])
}

/// The same with more of what bwrap(1) is told.
pub fn in_tools_with(program: &str, folders: &[&Path], more: &[String]) -> Result<Command> {
    let tools = artifact::tools()?;
    let mut command = Command::new("bwrap");
    command.arg("--ro-bind").args([&tools.join("usr"), Path::new("/usr")]);
    command.arg("--ro-bind").args([&tools.join("etc"), Path::new("/etc")]);
    for name in ["bin", "sbin", "lib", "lib64"] {
        command.args(["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
    }
    command.args(["--dev-bind", "/dev", "/dev", "--proc", "/proc", "--ro-bind", "/sys", "/sys"]);
    command.args([
        "--tmpfs",
        "/tmp",
        "--tmpfs",
        "/run",
        "--clearenv",
        "--setenv",
        "PATH",
        "/usr/sbin:/usr/bin",
    ]);
    for folder in folders {
        command.arg("--bind").args([folder, folder]);
    }
    // A tap is attached with CAP_NET_ADMIN.
    command.args(more).args(["--die-with-parent", "--cap-add", "CAP_NET_ADMIN", "--", program]);
    Ok(command)
}

/// Ends a program of the tools tree (SIGKILL), and waits until it is gone. It is killed itself, and bwrap(1) follows it: the
/// other way round nobody would wait for it, and the kernel takes a while to free a machine's memory, taps and files.
fn end(bwrap: &mut Child) {
    let id = bwrap.id();
    let inside = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    match inside.split_whitespace().next().and_then(|pid| pid.parse().ok()) {
        Some(program) => drop(kill(Pid::from_raw(program), Signal::SIGKILL)),
        // It has not come so far yet.
        None => drop(bwrap.kill()),
    }
    let _status = bwrap.wait();
}
