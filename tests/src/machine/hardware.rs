//! A machine while it is off: its disks and its firmware's variables, which stay when it is switched off or loses power.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tempfile::TempDir;

use super::{Disk, FIRMWARE, Machine, Nic, SECURE_FIRMWARE, UUID, VARIABLES, in_tools, nic, tpm};
use crate::accel::Accel;
use crate::artifact;

/// The number of the first free slot.
pub(super) const FREE: usize = 100;

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Names the machine and its log; also its hardware serial number.
    pub name: String,
    /// Its disks, sticks and discs. The firmware finds them by itself and remembers what it found; it starts from removable
    /// ones first, as long as nobody has told it otherwise, and from the network if no disk starts.
    pub disks: Vec<Disk>,
    /// The node bundle, given as a systemd credential by SMBIOS.
    pub bundle: Option<String>,
    /// In the order of their slots.
    pub nics: Vec<Nic>,
    /// MiB.
    pub memory: u32,
    /// Processors. It has one if nobody says otherwise: emulated ones wait for each other's locks, and on a busy host they miss
    /// each other's timers.
    pub cores: u32,
    /// Whether it has a TPM.
    pub tpm: bool,
    /// Whether its firmware can do Secure Boot. It does once keys are enrolled; until then it is in setup mode.
    pub secure_boot: bool,
    /// What its clock shows when it is switched on, `1970-01-01T00:00:00`; the host's time if nothing is said.
    pub clock: Option<&'static str>,
    /// What its log is called, if it is not to be called as the machine.
    pub log: Option<String>,
    /// Free slots, into which disks can be plugged while the machine runs.
    pub slots: usize,
    /// Settings that the firmware reads (QEMU's `fw_cfg`): name and value.
    pub firmware: Vec<(&'static str, &'static str)>,
}

impl Spec {
    /// A machine of this name with nothing plugged in.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            disks: vec![],
            bundle: None,
            nics: vec![],
            memory: 2048,
            cores: 1,
            tpm: false,
            secure_boot: false,
            clock: None,
            log: None,
            slots: 0,
            firmware: vec![],
        }
    }
}

/// A machine that is off. What was written to its disks and to its firmware's variables is still there; all of it goes
/// when this value goes out of scope.
#[derive(Debug)]
pub struct Hardware {
    /// What it is made of. What is changed here counts from the next start: a stick pulled, a disk put in.
    pub spec: Spec,
    folder: TempDir,
}

impl Hardware {
    /// Puts a new machine together.
    pub fn assemble(spec: Spec) -> Result<Self> {
        let folder = folder(&spec.name)?;
        fs::copy(artifact::tools()?.join(VARIABLES), folder.path().join("vars.fd"))
            .context("cannot copy the firmware's variables")?;
        let hardware = Self { spec, folder };
        hardware.make_disks()?;
        Ok(hardware)
    }

    /// A machine like this one as it is now: it has copies of what the firmware remembers and of the memory that is frozen,
    /// and disks that are layers over this one's. This one stays off as long as there are such.
    pub fn twin(&self, log: &str) -> Result<Self> {
        let mut spec = self.spec.clone();
        spec.log = Some(log.to_owned());
        for disk in &mut spec.disks {
            if let Some(content) = disk.layer(self.folder()) {
                disk.content = content;
            }
        }
        let folder = folder(&spec.name)?;
        let at = |name: &str| self.folder().join(name);
        fs::copy(at("vars.fd"), folder.path().join("vars.fd"))
            .context("cannot copy the firmware's variables")?;
        if at("memory").exists() {
            // It is only read.
            fs::hard_link(at("memory"), folder.path().join("memory"))
                .context("cannot link the frozen memory")?;
        }
        let hardware = Self { spec, folder };
        hardware.make_disks()?;
        Ok(hardware)
    }

    /// Switches it on.
    pub fn start(self) -> Result<Machine> {
        Machine::switch_on(self, &[])
    }

    /// Lets it go on from where [`Machine::freeze`] left it, with the disks and variables as they are now. As often as
    /// wanted; nothing may have been plugged in before.
    pub fn thaw(self) -> Result<Machine> {
        let from = self.frozen();
        let mut machine = Machine::switch_on(self, &["-incoming", &from])?;
        machine.go_on()?;
        Ok(machine)
    }

    /// The disk of this serial number.
    pub fn disk(&self, serial: &str) -> Result<&Disk> {
        let found = self.spec.disks.iter().find(|disk| disk.serial == serial);
        found.with_context(|| format!("{} has no disk {serial}", self.spec.name))
    }

    /// The file that holds the disk of this serial number.
    pub fn file(&self, serial: &str) -> Result<PathBuf> {
        Ok(self.file_of(self.disk(serial)?))
    }

    /// The file that holds a disk that was plugged in while the machine ran.
    pub fn file_of(&self, disk: &Disk) -> PathBuf {
        disk.file(self.folder())
    }

    /// Takes out the disk, stick or disc of this serial number. Its file stays, should it be put back.
    pub fn pull(&mut self, serial: &str) -> Result<Disk> {
        let at = self.spec.disks.iter().position(|disk| disk.serial == serial);
        let at = at.with_context(|| format!("{} has no disk {serial}", self.spec.name))?;
        Ok(self.spec.disks.remove(at))
    }

    /// Makes the disk of this serial number larger, by so many GiB, as whoever lends it from a store does.
    pub fn grow(&self, serial: &str, by: u64) -> Result<()> {
        let file = File::options().write(true).open(self.file(serial)?)?;
        let size = file.metadata()?.len() + (by << 30);
        file.set_len(size).context("cannot make the disk larger")
    }

    /// Forgets all that the firmware has remembered, as an empty battery does.
    pub fn forget(&self) -> Result<()> {
        let kept = self.folder().join("vars.fd");
        fs::copy(artifact::tools()?.join(VARIABLES), kept)
            .context("cannot copy the firmware's variables")
            .map(drop)
    }

    /// A folder for files that belong to this machine; it goes when the machine goes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its memory is while it is frozen, as QEMU is told.
    pub(super) fn frozen(&self) -> String {
        format!("file:{}", self.folder().join("memory").display())
    }

    /// Makes those that are not there yet.
    fn make_disks(&self) -> Result<()> {
        self.spec.disks.iter().try_for_each(|disk| disk.make(self.folder()))
    }

    /// QEMU, ready to be started; what it complains about goes to the file `stderr`.
    pub(super) fn qemu(&self) -> Result<Command> {
        self.make_disks()?;
        if let Some(bundle) = &self.spec.bundle {
            fs::write(self.folder().join("smbios"), credential(bundle))?;
        }
        let mut folders = vec![self.folder()];
        for disk in &self.spec.disks {
            folders.extend(disk.outside()?.filter(|outside| !folders.contains(outside)));
        }
        let complaints = File::create(self.folder().join("stderr"))?;
        let mut qemu = in_tools("qemu-system-x86_64", &folders)?;
        qemu.args(self.arguments()?);
        qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints);
        Ok(qemu)
    }

    /// QEMU's arguments. None of the paths may have a blank in it.
    fn arguments(&self) -> Result<Vec<String>> {
        let spec = &self.spec;
        let at = |name: &str| self.folder().join(name).display().to_string();
        let mut arguments: Vec<String> = Accel::find()?.arguments().map(String::from).into();
        let mut add = |text: &str| arguments.extend(text.split_whitespace().map(String::from));
        add(&format!("-name {} -nodefaults -no-user-config -display none", spec.name));
        add(&format!("-smp {} -m {}", spec.cores, spec.memory));
        add("-device virtio-rng-pci -device VGA -serial stdio -device qemu-xhci,id=usb");
        add(&firmware(spec.secure_boot, &at("vars.fd")));
        if let Some(clock) = spec.clock {
            add(&format!("-rtc base={clock}"));
        }
        for (number, disk) in spec.disks.iter().enumerate() {
            add(&disk.arguments(number, self.folder()));
        }
        for (name, value) in &spec.firmware {
            add(&format!("-fw_cfg name={name},string={value}"));
        }
        add(&format!("-smbios type=1,serial={} -uuid {UUID}", spec.name));
        add(&format!("-qmp unix:{},server=on,wait=off", at("qmp")));
        if let Ok(more) = env::var("TRILITH_KERNEL_ARGUMENTS") {
            // For a person in search of a fault, such as `systemd.journald.forward_to_console`.
            let text = format!("io.systemd.stub.kernel-cmdline-extra={more}");
            fs::write(self.folder().join("cmdline"), text)?;
            add(&format!("-smbios type=11,path={}", at("cmdline")));
        }
        if spec.tpm {
            add(&tpm::arguments(self.folder()));
        }
        if spec.bundle.is_some() {
            add(&format!("-smbios type=11,path={}", at("smbios")));
        }
        add(&nic::arguments(&spec.nics));
        for number in 0..spec.slots {
            // Behind those of the NICs.
            add(&super::slot(FREE + number));
        }
        Ok(arguments)
    }
}

/// QEMU's arguments for the firmware. What checks signatures keeps its variables where the system cannot reach them: in
/// memory that the processor shows to firmware alone (SMM).
fn firmware(secure_boot: bool, variables: &str) -> String {
    let (machine, code) = if secure_boot {
        ("q35,smm=on -global driver=cfi.pflash01,property=secure,value=on", SECURE_FIRMWARE)
    } else {
        ("q35", FIRMWARE)
    };
    format!(
        "-machine {machine} -drive if=pflash,format=raw,readonly=on,file={code} \
         -drive if=pflash,format=raw,file={variables}"
    )
}

fn folder(name: &str) -> Result<TempDir> {
    let runs = artifact::machines()?.join("run");
    fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
    tempfile::Builder::new()
        .prefix(&format!("{name}."))
        .tempdir_in(runs)
        .context("cannot make a folder")
}

/// One string of SMBIOS type 11, as systemd reads credentials from it.
fn credential(bundle: &str) -> String {
    format!("io.systemd.credential.binary:trilith.bundle={}", BASE64_STANDARD.encode(bundle))
}
