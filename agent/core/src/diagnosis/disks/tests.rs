use super::*;

const NVME: &str = r#"{"device":{"name":"/dev/nvme0n1","type":"nvme"},"smart_status":{"passed":true},
  "temperature":{"current":38},"power_on_time":{"hours":9120},
  "nvme_smart_health_information_log":{"percentage_used":4,"media_errors":0}}"#;
const ATA: &str = r#"{"device":{"name":"/dev/sda","type":"sat"},"smart_status":{"passed":false},
  "temperature":{"current":51},"power_on_time":{"hours":41000},"ata_smart_attributes":{"table":[
  {"id":5,"raw":{"value":12}},{"id":9,"raw":{"value":41000}},{"id":197,"raw":{"value":3}}]}}"#;
/// A disk of a virtual machine (smartctl 7.4).
const VIRTIO: &str = r#"{"smartctl":{"exit_status":1,"messages":[{"string":
  "/dev/vda: Unable to detect device type","severity":"error"}]},"local_time":{"time_t":1795264175}}"#;

fn named(json: &str) -> Disk {
    let (name, health) = health(json).unwrap();
    Disk { name, health, ..Disk::default() }
}

#[test]
fn health_is_read_as_smartctl_tells_it() {
    let nvme = named(NVME).health.unwrap();
    assert_eq!((nvme.passed, nvme.used, nvme.defects), (Some(true), Some(4), 0));
    let ata = named(ATA).health.unwrap();
    assert_eq!((ata.passed, ata.celsius, ata.defects), (Some(false), Some(51), 15));
    assert_eq!(health(VIRTIO), None);
    assert_eq!(health("smartctl: no"), None);
}

#[test]
fn a_person_reads_what_is_on_each_disk() {
    let label = |name: &str, label: &str, signature: Option<&str>| Partition {
        name: name.into(),
        size: 2 << 30,
        label: Some(label.into()),
        signature: signature.map(Into::into),
    };
    let mut system = named(NVME);
    system.block.size = 960_197_124_096;
    system.block.model = Some("Samsung".into());
    system.block.serial = Some("S64".into());
    system.signature = Some("gpt".into());
    system.partitions =
        vec![label("nvme0n1p1", "esp", Some("vfat")), label("nvme0n1p2", "_empty", None)];
    let mut osd = named(ATA);
    osd.block.size = 4_000_787_030_016;
    osd.osd = Some("osd 3".into());
    let silent = Disk { name: "vda".into(), ..Disk::default() };
    let expected = "\
nvme0n1      960 GB  gpt    Samsung, serial S64  healthy, 38 °C, 9120 h, 4 % used
  nvme0n1p1  2.1 GB  vfat   label esp
  nvme0n1p2  2.1 GB  blank  label _empty
sda          4 TB    osd 3                       FAILING, 15 defects, 51 °C, 41000 h
vda          0 B     blank                       no SMART";
    assert_eq!(lines(&[system, osd, silent]).join("\n"), expected);
    assert_eq!(lines(&[]), ["no disks"]);
}
