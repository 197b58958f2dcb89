//! The disks of a machine: what they are plugged into, what is on them, how QEMU is told.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::in_tools;
use crate::command::run;

/// A disk, a stick or a disc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its serial number, at most 20 letters and digits; also the name of its file, so no two of a machine have the same.
    pub serial: String,
    /// What it is plugged into.
    pub bus: Bus,
    /// What is on it when the machine is switched on for the first time.
    pub content: Content,
    /// Bytes in a logical sector, 512 or 4096. SATA and optical drives have their own.
    pub sector: u32,
    /// Its place, from 0, in an order that the firmware makes its own at each start. Where one disk has a place, the entries
    /// of those without are forgotten (OVMF, `PruneBootVariables`).
    pub place: Option<usize>,
}

/// What a disk is plugged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio: `vda`.
    Virtio,
    /// NVM Express: `nvme0n1`.
    Nvme,
    /// AHCI: `sda`.
    Sata,
    /// A USB stick, which says of itself that it is removable.
    Usb,
    /// An optical drive at AHCI; the content is the disc.
    Optical,
}

/// What is on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing, this many GiB of it.
    Empty(u32),
    /// A layer over a raw image, 16 GiB large: the image is not changed.
    Layer(PathBuf),
    /// A layer over the disk of a machine that is off, which is not changed ([`super::Hardware::twin`]).
    Over(PathBuf),
    /// A raw image that cannot be written to.
    Fixed(PathBuf),
    /// A raw image that is written to.
    Raw(PathBuf),
}

impl Disk {
    /// A virtio disk with the image on it, larger than the image; the image itself is not changed.
    pub fn of(image: PathBuf) -> Self {
        Self::new("DISK", Bus::Virtio, Content::Layer(image))
    }

    /// A stick or a disc that cannot be written to.
    pub fn medium(image: PathBuf, bus: Bus) -> Self {
        Self::new("MEDIUM", bus, Content::Fixed(image))
    }

    /// An empty disk of this many GiB.
    pub fn empty(serial: &str, bus: Bus, size: u32) -> Self {
        Self::new(serial, bus, Content::Empty(size))
    }

    /// A disk with sectors of 512 bytes that the firmware starts from if its variables say so.
    pub fn new(serial: &str, bus: Bus, content: Content) -> Self {
        Self { serial: serial.into(), bus, content, sector: 512, place: None }
    }

    /// The file that holds it, in the folder of its machine if it is the machine's own.
    pub(super) fn file(&self, folder: &Path) -> PathBuf {
        match &self.content {
            Content::Empty(_) => folder.join(format!("{}.raw", self.serial)),
            Content::Layer(_) | Content::Over(_) => folder.join(format!("{}.qcow2", self.serial)),
            Content::Fixed(image) | Content::Raw(image) => image.clone(),
        }
    }

    /// Makes its file, if it is the machine's own and not there yet.
    pub(super) fn make(&self, folder: &Path) -> Result<()> {
        let file = self.file(folder);
        match &self.content {
            _ if file.exists() => Ok(()),
            Content::Empty(size) => {
                let failed = || format!("cannot make {}", file.display());
                let made = File::create(&file).with_context(failed)?;
                made.set_len(u64::from(*size) << 30).with_context(failed)
            }
            Content::Layer(image) => run(in_tools("qemu-img", &[folder, parent(image)?])?
                .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .args([image, &file])
                .arg("16G"))
            .map(drop),
            Content::Over(below) => run(in_tools("qemu-img", &[folder, runs(below)?])?
                .args(["create", "-q", "-f", "qcow2", "-F", format(below), "-b"])
                .args([below, &file]))
            .map(drop),
            Content::Fixed(image) | Content::Raw(image) => {
                File::open(image).with_context(|| format!("no {}", image.display())).map(drop)
            }
        }
    }

    /// The folder outside of the machine's own that its bytes come from.
    pub(super) fn outside(&self) -> Result<Option<&Path>> {
        match &self.content {
            Content::Empty(_) => Ok(None),
            Content::Over(below) => runs(below).map(Some),
            Content::Layer(image) | Content::Fixed(image) | Content::Raw(image) => {
                parent(image).map(Some)
            }
        }
    }

    /// What is a layer over it, in another machine. `None`: it can be shared, nobody writes to it.
    pub(super) fn layer(&self, folder: &Path) -> Option<Content> {
        match &self.content {
            Content::Fixed(_) => None,
            Content::Empty(_) | Content::Layer(_) | Content::Over(_) | Content::Raw(_) => {
                Some(Content::Over(self.file(folder)))
            }
        }
    }

    /// QEMU's arguments for it, as the disk of this number. What QEMU had written survives its end in the host's memory, and
    /// the disk is thrown away when the test ends: it need not be made durable.
    pub(super) fn arguments(&self, number: usize, folder: &Path) -> String {
        let (file, serial) = (self.file(folder).display().to_string(), &self.serial);
        let kind = match &self.content {
            Content::Layer(_) | Content::Over(_) => "format=qcow2,cache=unsafe,discard=unmap",
            Content::Empty(_) | Content::Raw(_) => "format=raw,cache=unsafe,discard=unmap",
            Content::Fixed(_) => "format=raw,readonly=on",
        };
        let media = if self.bus == Bus::Optical { ",media=cdrom" } else { "" };
        let sizes = format!("logical_block_size={0},physical_block_size={0}", self.sector);
        let device = match self.bus {
            Bus::Virtio => format!("virtio-blk-pci,{sizes}"),
            Bus::Nvme => format!("nvme,{sizes}"),
            // One disk at each port, of which there are six.
            Bus::Sata => format!("ide-hd,bus=ide.{number}"),
            Bus::Usb => format!("usb-storage,bus=usb.0,removable=on,{sizes}"),
            Bus::Optical => format!("ide-cd,bus=ide.{number}"),
        };
        let place = self.place.map(|it| format!(",bootindex={it}")).unwrap_or_default();
        format!(
            "-drive if=none,id=drive{number}{media},{kind},file={file} \
             -device {device},id=disk{number},drive=drive{number},serial={serial}{place}"
        )
    }
}

/// The folder of all machines' folders: a layer may lie over one that lies over a third.
fn runs(below: &Path) -> Result<&Path> {
    parent(parent(below)?)
}

/// QEMU's word for what a disk's file is.
fn format(file: &Path) -> &'static str {
    if file.extension().is_some_and(|it| it == "qcow2") { "qcow2" } else { "raw" }
}

fn parent(path: &Path) -> Result<&Path> {
    path.parent().with_context(|| format!("{} has no folder", path.display()))
}
