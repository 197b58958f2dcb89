//! A virtual machine in QEMU: UEFI firmware, one disk, NICs on taps, a serial console.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::accel::Accel;
use crate::artifact;
use crate::command::run;
use crate::console::Console;
use crate::qmp::Qmp;

/// UEFI firmware, by its path in the tools tree.
pub(crate) const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Its variables, as they leave the factory.
const VARIABLES: &str = "usr/share/OVMF/OVMF_VARS_4M.fd";

/// The hardware UUID of every machine here. Its serial number is its name.
pub const UUID: &str = "7f9c2ba4-e88f-4b1d-9c3a-5d0e6f7a8b9c";

/// How long a machine may take for anything that includes a boot. Without KVM it takes minutes.
pub const BOOT: Duration = Duration::from_mins(15);
/// How long a running machine may take to react.
pub const REACTION: Duration = Duration::from_mins(3);

/// A network card and the cable in it.
#[derive(Debug, Clone)]
pub struct Nic {
    /// The Ethernet address, `52:54:00:00:01:01`.
    pub mac: String,
    /// The tap that its cable ends in, made by [`crate::network::Switch::tap`].
    pub tap: String,
    /// Where it sits.
    pub place: Place,
}

/// Where a NIC sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a slot of its own, out of which it can be pulled.
    Slot,
    /// On the bus of this number, as function of the device 0: `0000:3b:00.1`.
    Path {
        /// The bus.
        bus: u8,
        /// The function.
        function: u8,
    },
}

impl Place {
    /// Reads a PCI address as Linux writes it.
    pub fn at(path: &str) -> Result<Self> {
        let parts = path.strip_prefix("0000:").and_then(|rest| rest.split_once(":00."));
        let (bus, function) = parts.with_context(|| format!("no place for a NIC at {path}"))?;
        Ok(Self::Path { bus: u8::from_str_radix(bus, 16)?, function: function.parse()? })
    }
}

/// What a machine starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A disk of its own: a layer over the image, larger than it. The image is not changed.
    Disk,
    /// The image in a USB stick that cannot be written to.
    Stick,
    /// The image as a disc in an optical drive.
    Disc,
}

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Names the machine and its log; also its hardware serial number.
    pub name: String,
    /// The raw disk image.
    pub image: PathBuf,
    /// What it is in this machine.
    pub media: Media,
    /// The node bundle, given as a systemd credential by SMBIOS.
    pub bundle: Option<String>,
    /// In the order of their slots.
    pub nics: Vec<Nic>,
}

/// A running machine. It ends when this value goes out of scope, and when this process dies.
#[derive(Debug)]
pub struct Machine {
    spec: Spec,
    qemu: Child,
    console: Console,
    qmp: Qmp,
    folder: TempDir,
}

impl Machine {
    /// Makes the disk and switches the machine on.
    pub fn start(spec: Spec) -> Result<Self> {
        Self::start_changed(spec, |_disk| Ok(()))
    }

    /// Makes the disk, lets `change` do something to it (a qcow2 image), and switches the machine on.
    pub fn start_changed(spec: Spec, change: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let folder = folder(&spec.name)?;
        let disk = make_disk(&spec, folder.path())?;
        change(&disk)?;
        fs::copy(artifact::tools()?.join(VARIABLES), folder.path().join("vars.fd"))
            .context("cannot copy the firmware's variables")?;
        if let Some(bundle) = &spec.bundle {
            fs::write(folder.path().join("smbios"), credential(bundle))?;
        }

        let log = artifact::target().join("vm").join(format!("{}.console.log", spec.name));
        let log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let complaints = File::create(folder.path().join("stderr"))?;
        let mut qemu = in_tools("qemu-system-x86_64", &[folder.path(), parent(&spec.image)?])?
            .args(arguments(&spec, folder.path())?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints)
            .spawn()
            .context("cannot start QEMU")?;
        let console = Console::read(qemu.stdout.take().context("QEMU has no stdout")?, log);
        let socket = folder.path().join("qmp");
        let qmp =
            console.until("QEMU listens", REACTION, || Qmp::connect(&socket)).map_err(|error| {
                let _gone = qemu.kill();
                let _status = qemu.wait();
                let complaints =
                    fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
                error.context(format!("QEMU says: {complaints}"))
            })?;
        Ok(Self { spec, qemu, console, qmp, folder })
    }

    /// What it says on its serial console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Types on its serial console, as a person at a terminal, or as the terminal itself.
    pub fn keyboard(&mut self) -> Result<&mut ChildStdin> {
        self.qemu.stdin.as_mut().context("QEMU has no stdin")
    }

    /// A picture of its screen, as PNG.
    pub fn screenshot(&mut self, path: &Path) -> Result<()> {
        self.qmp.command("screendump", &json!({ "filename": path, "format": "png" })).map(drop)
    }

    /// Presses keys of its keyboard together, by QEMU's names (QKeyCode).
    pub fn press_keys(&mut self, keys: &[&str]) -> Result<()> {
        let keys: Vec<_> = keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.qmp.command("send-key", &json!({ "keys": keys })).map(drop)
    }

    /// QEMU's control socket.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// A folder for files that belong to this machine; it goes when the machine goes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// QEMU's process ID: its network namespace is the machine's.
    pub fn pid(&self) -> u32 {
        self.qemu.id()
    }

    /// Pulls a NIC out of its slot, and waits until the guest has let go of it.
    pub fn pull(&mut self, nic: usize) -> Result<()> {
        let id = format!("nic{nic}");
        self.qmp.command("device_del", &json!({ "id": id }))?;
        let gone =
            |event: &Value| event["event"] == "DEVICE_DELETED" && event["data"]["device"] == *id;
        self.qmp.wait_event("the NIC to be released", REACTION, gone)?;
        self.qmp.forget_events();
        Ok(())
    }

    /// Puts a NIC back into its slot ([`Place::Slot`]).
    pub fn put_back(&mut self, nic: usize) -> Result<()> {
        let spec = self.spec.nics.get(nic).context("no such NIC")?;
        let device = json!({
            "driver": "virtio-net-pci", "id": format!("nic{nic}"), "netdev": format!("net{nic}"),
            "mac": spec.mac, "bus": format!("slot{nic}"), "romfile": "",
            "speed": 10000, "duplex": "full",
        });
        self.qmp.command("device_add", &device).map(drop)
    }

    /// Pulls a NIC's cable, or plugs it in.
    pub fn set_cable(&mut self, nic: usize, plugged: bool) -> Result<()> {
        let arguments = json!({ "name": format!("nic{nic}"), "up": plugged });
        self.qmp.command("set_link", &arguments).map(drop)
    }

    /// Waits until the guest has reset itself, counted from the machine's start or the last reset waited for.
    pub fn wait_reset(&mut self, patience: Duration) -> Result<()> {
        let by_guest = |event: &Value| event["event"] == "RESET" && event["data"]["guest"] == true;
        self.qmp.wait_event("a reset by the guest", patience, by_guest)?;
        self.qmp.forget_events();
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _gone = self.qemu.kill();
        let _status = self.qemu.wait();
    }
}

/// A command that runs a program of the tools tree: it sees that tree, the host's devices, and `folders`.
///
/// It keeps the caller's network namespace, and dies with its parent.
pub fn in_tools(program: &str, folders: &[&Path]) -> Result<Command> {
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
    command.args(["--die-with-parent", "--cap-add", "CAP_NET_ADMIN", "--", program]);
    Ok(command)
}

fn folder(name: &str) -> Result<TempDir> {
    let runs = artifact::target().join("vm/run");
    fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
    let runs = runs.canonicalize()?;
    tempfile::Builder::new()
        .prefix(&format!("{name}."))
        .tempdir_in(runs)
        .context("cannot make a folder")
}

fn parent(path: &Path) -> Result<&Path> {
    path.parent().with_context(|| format!("{} has no folder", path.display()))
}

/// A layer over the image, larger than it: the rest becomes /var.
fn make_disk(spec: &Spec, folder: &Path) -> Result<PathBuf> {
    let disk = folder.join("disk.qcow2");
    run(in_tools("qemu-img", &[folder, parent(&spec.image)?])?
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .args([&spec.image, &disk])
        .arg("16G"))?;
    Ok(disk)
}

/// One string of SMBIOS type 11, as systemd reads credentials from it.
fn credential(bundle: &str) -> String {
    format!("io.systemd.credential.binary:trilith.bundle={}", BASE64_STANDARD.encode(bundle))
}

/// QEMU's arguments. None of the paths may have a blank in it.
fn arguments(spec: &Spec, folder: &Path) -> Result<Vec<String>> {
    let at = |name: &str| folder.join(name).display().to_string();
    let mut arguments: Vec<String> = Accel::find()?.arguments().map(String::from).into();
    let mut add = |text: &str| arguments.extend(text.split_whitespace().map(String::from));
    add(&format!("-name {} -nodefaults -no-user-config -display none", spec.name));
    add("-machine q35 -smp 2 -m 2048 -device virtio-rng-pci -device VGA -serial stdio");
    add(&format!("-drive if=pflash,format=raw,readonly=on,file={FIRMWARE}"));
    add(&format!("-drive if=pflash,format=raw,file={}", at("vars.fd")));
    add(&drive(spec, &at("disk.qcow2")));
    add(&format!("-smbios type=1,serial={} -uuid {UUID}", spec.name));
    add(&format!("-qmp unix:{},server=on,wait=off", at("qmp")));
    if let Ok(more) = env::var("TRILITH_KERNEL_ARGUMENTS") {
        // For a person in search of a fault, such as `systemd.journald.forward_to_console`.
        fs::write(folder.join("cmdline"), format!("io.systemd.stub.kernel-cmdline-extra={more}"))?;
        add(&format!("-smbios type=11,path={}", at("cmdline")));
    }
    if spec.bundle.is_some() {
        add(&format!("-smbios type=11,path={}", at("smbios")));
    }
    let mut buses = BTreeSet::new();
    for (number, nic) in spec.nics.iter().enumerate() {
        add(&format!("-netdev tap,id=net{number},ifname={},script=no,downscript=no", nic.tap));
        let bus = match nic.place {
            Place::Slot => {
                add(&format!(
                    "-device pcie-root-port,id=slot{number},chassis={number},slot={number}"
                ));
                format!("slot{number}")
            }
            Place::Path { bus, function } => {
                if buses.insert(bus) {
                    add(&port_to(bus));
                }
                format!("bus{bus},addr=0.{function},multifunction=on")
            }
        };
        // No option ROM: nothing boots from it. LACP bonds only ports whose speed and duplex it knows.
        let device = format!("virtio-net-pci,id=nic{number},netdev=net{number},mac={}", nic.mac);
        add(&format!("-device {device},speed=10000,duplex=full,romfile=,bus={bus}"));
    }
    Ok(arguments)
}

/// What it starts from. The disk is thrown away afterwards: no need to make it durable.
fn drive(spec: &Spec, layer: &str) -> String {
    let image = spec.image.display();
    let fixed = format!("format=raw,readonly=on,file={image}");
    match spec.media {
        Media::Disk => format!(
            "-drive if=none,id=disk,format=qcow2,cache=unsafe,file={layer} \
             -device virtio-blk-pci,drive=disk,bootindex=0"
        ),
        Media::Stick => format!(
            "-device qemu-xhci,id=usb -drive if=none,id=disk,{fixed} \
             -device usb-storage,bus=usb.0,drive=disk,removable=on,bootindex=0"
        ),
        Media::Disc => format!(
            "-drive if=none,id=disk,media=cdrom,{fixed} -device ide-cd,drive=disk,bootindex=0"
        ),
    }
}

/// A port of PCI Express with this bus behind it. The firmware numbers buses as it finds them: the first port of the
/// first root bus leads to bus 1, and the first port of a further root bus to the bus after that.
fn port_to(bus: u8) -> String {
    let port = format!("-device pcie-root-port,id=bus{bus},chassis={bus},slot={bus}");
    match bus.checked_sub(1) {
        None | Some(0) => format!("{port},bus=pcie.0"),
        Some(root) => {
            format!("-device pxb-pcie,id=root{bus},bus_nr={root},bus=pcie.0 {port},bus=root{bus}")
        }
    }
}
