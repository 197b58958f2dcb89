//! Disks: what the kernel and udev say of one, and whether it is one that a rule of the cluster file means.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::config::{Disk, DiskKind, Transport};

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Block {
    /// Its names below `/dev/disk/by-id`.
    pub ids: BTreeSet<String>,
    /// Its names below `/dev/disk/by-path`.
    pub paths: BTreeSet<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its World Wide Name.
    pub wwn: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// What it is made of.
    pub kind: Option<DiskKind>,
    /// How it is attached.
    pub transport: Option<Transport>,
    /// Its size in bytes.
    pub size: u64,
}

/// Where the kernel and udev say what a disk is.
pub struct Facts<'a> {
    /// The kernel's name: `sda`.
    pub name: &'a str,
    /// The folder below /sys that describes it, without links: which buses it hangs on.
    pub folder: &'a str,
    /// A file in that folder, without blanks around it; `None`: there is none, or it is empty.
    pub file: &'a dyn Fn(&str) -> Option<String>,
    /// A property of udev's.
    pub property: &'a dyn Fn(&str) -> Option<String>,
}

impl Block {
    /// All but its names. What is not told is not there.
    pub fn about(facts: &Facts<'_>) -> Self {
        let Facts { name, folder, file, property } = facts;
        let kind = match file("queue/rotational").as_deref() {
            _ if name.starts_with("nvme") => Some(DiskKind::Nvme),
            Some("0") => Some(DiskKind::Ssd),
            Some(_) => Some(DiskKind::Hdd),
            None => None,
        };
        let serial = property("ID_SERIAL_SHORT").or_else(|| file("device/serial"));
        let wwn = property("ID_WWN_WITH_EXTENSION").or_else(|| property("ID_WWN"));
        Self {
            serial: serial.or_else(|| file("serial")),
            wwn: wwn.or_else(|| file("wwid")).or_else(|| file("device/wwid")),
            model: file("device/model"),
            kind,
            transport: transport(name, folder),
            // In units of 512 bytes, whatever the disk's own are (Documentation/ABI/stable/sysfs-block).
            size: file("size").and_then(|size| size.parse().ok()).map_or(0, |size: u64| size * 512),
            ..Self::default()
        }
    }

    /// Whether one of these is its serial number or a name by ID.
    pub fn is_among<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> bool {
        names.into_iter().any(|name| self.ids.contains(name) || self.serial.as_ref() == Some(name))
    }
}

/// By the buses on the way to it: a disk behind a USB bridge is a SCSI disk too, and one of virtio-scsi is one of virtio.
fn transport(name: &str, folder: &str) -> Option<Transport> {
    if name.starts_with("nvme") {
        return Some(Transport::Nvme);
    }
    let on = |bus: &str| folder.split('/').any(|part| part.starts_with(bus));
    let buses = [
        ("usb", Transport::Usb),
        ("virtio", Transport::Virtio),
        ("ata", Transport::Sata),
        ("end_device-", Transport::Sas),
        ("target", Transport::Scsi),
    ];
    buses.into_iter().find(|(bus, _)| on(bus)).map(|(_, transport)| transport)
}

impl Disk {
    /// Whether a disk is as the rule says. A rule that says nothing fits none.
    pub fn fits(&self, disk: &Block) -> bool {
        *self != Self::default() && self.misses(disk).is_empty()
    }

    /// Whether the rule means one disk and no other, and this is it.
    pub fn names(&self, disk: &Block) -> bool {
        let Self { id, path, serial, wwn, .. } = self.clone();
        let exact = Self { id, path, serial, wwn, ..Self::default() };
        exact.fits(disk)
    }

    /// What of the rule a disk is not, for people.
    pub fn misses(&self, disk: &Block) -> Vec<String> {
        let Self { id, path, serial, wwn, model, kind, transport, min_size, max_size } = self;
        let is = |what: &str, wanted: Option<String>, has: Option<String>| {
            let wanted = wanted?;
            let same = has.as_ref().is_some_and(|has| has.eq_ignore_ascii_case(&wanted));
            let has = has.unwrap_or_else(|| "unknown".into());
            (!same).then(|| format!("its {what} is {has}, not {wanted}"))
        };
        let text = |value: &Option<_>| value.as_ref().map(ToString::to_string);
        let id = id.as_ref().filter(|id| !disk.ids.contains(id.as_str()));
        let path = path.as_ref().filter(|path| !disk.paths.contains(path.as_str()));
        let (small, large) = (min_size.map(|min| (disk.size < min.bytes(), min)), max_size);
        let large = large.map(|max| (disk.size > max.bytes(), max));
        let misses = [
            id.map(|id| format!("it is not {id} by ID")),
            path.map(|path| format!("it is not at {path}")),
            is("serial number", serial.clone(), disk.serial.clone()),
            is("WWN", text(wwn), disk.wwn.clone()),
            is("model", model.clone(), disk.model.clone()),
            is("kind", kind.map(|it| it.to_string()), disk.kind.map(|it| it.to_string())),
            is(
                "transport",
                transport.map(|it| it.to_string()),
                disk.transport.map(|it| it.to_string()),
            ),
            small.filter(|(is, _)| *is).map(|(_, min)| format!("it is smaller than {min}")),
            large.filter(|(is, _)| *is).map(|(_, max)| format!("it is larger than {max}")),
        ];
        misses.into_iter().flatten().collect()
    }
}

/// As disks are sold: three digits, in powers of 1000.
pub fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let power = bytes.checked_ilog10().unwrap_or(0) / 3;
    let whole = 1000_u64.pow(power);
    let unit = usize::try_from(power).ok().and_then(|power| units.get(power)).unwrap_or(&"B");
    match (bytes / whole, bytes % whole * 10 / whole) {
        (big, tenth) if big < 10 && tenth > 0 => format!("{big}.{tenth} {unit}"),
        (big, _) => format!("{big} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(name: &str, folder: &str) -> Option<Transport> {
        transport(name, folder)
    }

    #[test]
    fn a_disk_hangs_on_the_bus_that_leads_to_it() {
        let pci = "/sys/devices/pci0000:00/0000:00";
        let at = |rest: &str| format!("{pci}:{rest}");
        assert_eq!(about("nvme0n1", &at("03.0/nvme/nvme0/nvme0n1")), Some(Transport::Nvme));
        let disk = "host2/target2:0:0/2:0:0:0/block/sda";
        assert_eq!(about("sda", &at(&format!("1f.2/ata1/{disk}"))), Some(Transport::Sata));
        assert_eq!(
            about("sda", &at(&format!("4.0/usb1/1-1/1-1:1.0/{disk}"))),
            Some(Transport::Usb)
        );
        assert_eq!(about("sda", &at(&format!("4.0/virtio3/{disk}"))), Some(Transport::Virtio));
        assert_eq!(about("vda", &at("4.0/virtio3/block/vda")), Some(Transport::Virtio));
        let sas = format!("1.0/host0/port-0:0/end_device-0:0/{disk}");
        assert_eq!(about("sda", &at(&sas)), Some(Transport::Sas));
        assert_eq!(about("sda", &at(&format!("5.0/{disk}"))), Some(Transport::Scsi));
        assert_eq!(about("loop0", "/sys/devices/virtual/block/loop0"), None);
    }

    #[test]
    fn a_rule_says_what_a_disk_is_not() {
        let rule: Disk = serde_yaml::from_str(
            "{id: ata-A, serial: SA, wwn: '0xABC1', kind: ssd, transport: sata, max_size: 10GB}",
        )
        .unwrap();
        let disk = Block {
            ids: ["ata-A".to_owned()].into(),
            serial: Some("SA".into()),
            wwn: Some("0xabc1".into()),
            kind: Some(DiskKind::Ssd),
            transport: Some(Transport::Sata),
            size: 10_000_000_000,
            ..Block::default()
        };
        assert!(rule.fits(&disk) && rule.names(&disk));
        let other = Block {
            serial: None,
            wwn: Some("0x5".into()),
            kind: Some(DiskKind::Hdd),
            size: 10_000_000_001,
            ..disk.clone()
        };
        assert_eq!(
            rule.misses(&other).join("; "),
            "its serial number is unknown, not SA; its WWN is 0x5, not 0xABC1; its kind is hdd, not ssd; \
             it is larger than 10GB"
        );
        assert!(!Disk::default().fits(&disk));
        let vague: Disk = serde_yaml::from_str("{kind: ssd}").unwrap();
        assert!(vague.fits(&disk) && !vague.names(&disk));
    }

    #[test]
    fn wipe_and_overwrite_name_a_disk() {
        let disk = Block { ids: ["ata-A".to_owned()].into(), ..Block::default() };
        assert!(disk.is_among(&["ata-A".to_owned()]) && !disk.is_among(&["SA".to_owned()]));
    }
}
