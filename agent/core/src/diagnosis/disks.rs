//! The disks: what they are, what is on them, whose they are, and how they feel.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::table;
use crate::disks::{Block, size};

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// The kernel's name, such as `sda`.
    pub name: String,
    /// Size, serial number, model and other names.
    #[serde(flatten)]
    pub block: Block,
    /// What lies on the disk as a whole, as udev sees it: `gpt`, `ext4`, `ceph_bluestore`; `None`: nothing that it
    /// knows.
    pub signature: Option<String>,
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// What came of the wish for an OSD on it: `osd 3`, or why there is none.
    pub osd: Option<String>,
    /// How the disk says that it is; `None`: it does not say, or nobody could ask.
    pub health: Option<Health>,
}

/// A partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Partition {
    /// The kernel's name, such as `sda1`.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its name in the partition table.
    pub label: Option<String>,
    /// What lies on it, as udev sees it.
    pub signature: Option<String>,
}

/// A summary of SMART.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// The disk's own judgement.
    pub passed: Option<bool>,
    /// In degrees Celsius.
    pub celsius: Option<i64>,
    /// For how long it has been switched on, in hours.
    pub hours: Option<u64>,
    /// How much of its life is used up, in per cent, by its maker's reckoning (NVMe).
    pub used: Option<u64>,
    /// Counts that are not zero on a disk that is wearing out: reallocated, pending and uncorrectable sectors (ATA 5,
    /// 197, 198), media errors (NVMe), grown defects (SCSI).
    pub defects: u64,
}

/// Attributes of ATA disks that count defects.
const DEFECTS: [u64; 3] = [5, 197, 198];

/// Reads what `smartctl --json --info --health --attributes` says: the disk's kernel name, and its health if it told
/// any.
pub fn health(json: &str) -> Option<(String, Option<Health>)> {
    let said: Value = serde_json::from_str(json).ok()?;
    let name = said.pointer("/device/name")?.as_str()?.strip_prefix("/dev/")?.to_owned();
    let number = |path: &str| said.pointer(path).and_then(Value::as_u64);
    let attributes = said.pointer("/ata_smart_attributes/table").and_then(Value::as_array);
    let bad = |one: &&Value| one["id"].as_u64().is_some_and(|id| DEFECTS.contains(&id));
    let ata = attributes.into_iter().flatten().filter(bad);
    let ata: u64 = ata.filter_map(|one| one.pointer("/raw/value")?.as_u64()).sum();
    let media = number("/nvme_smart_health_information_log/media_errors").unwrap_or_default();
    let health = Health {
        passed: said.pointer("/smart_status/passed").and_then(Value::as_bool),
        celsius: said.pointer("/temperature/current").and_then(Value::as_i64),
        hours: number("/power_on_time/hours"),
        used: number("/nvme_smart_health_information_log/percentage_used"),
        defects: ata + media + number("/scsi_grown_defect_list").unwrap_or_default(),
    };
    Some((name, (health != Health::default()).then_some(health)))
}

/// For people: a line for each disk, and one below it for each partition.
pub fn lines(disks: &[Disk]) -> Vec<String> {
    let rows: Vec<[String; 5]> = disks.iter().flat_map(rows).collect();
    if rows.is_empty() { vec!["no disks".into()] } else { table::lines(&rows) }
}

fn rows(disk: &Disk) -> Vec<[String; 5]> {
    let Disk { name, block, signature, partitions, osd, health } = disk;
    let serial = block.serial.as_ref().map(|serial| format!("serial {serial}"));
    let wwn = block.wwn.as_ref().map(|wwn| format!("WWN {wwn}"));
    let what = [block.model.clone(), serial, wwn, block.transport.map(|by| format!("by {by}"))];
    let what = what.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let health = health.as_ref().map_or_else(|| "no SMART".into(), summary);
    let on = osd.clone().or_else(|| signature.clone()).unwrap_or_else(|| "blank".into());
    let mut rows = vec![[name.clone(), size(block.size), on, what, health]];
    rows.extend(partitions.iter().map(|part| {
        let signature = part.signature.clone().unwrap_or_else(|| "blank".into());
        let label = part.label.as_ref().map(|label| format!("label {label}"));
        let label = label.unwrap_or_default();
        [format!("  {}", part.name), size(part.size), signature, label, String::new()]
    }));
    rows
}

fn summary(health: &Health) -> String {
    let verdict = match health.passed {
        Some(true) => "healthy",
        Some(false) => "FAILING",
        None => "no verdict",
    };
    let defects = (health.defects > 0).then(|| format!("{} defects", health.defects));
    let parts = [
        Some(verdict.to_owned()),
        defects,
        health.celsius.map(|celsius| format!("{celsius} °C")),
        health.hours.map(|hours| format!("{hours} h")),
        health.used.map(|used| format!("{used} % used")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
