//! Disks as the kernel shows them, in a folder.

use std::os::unix::fs::symlink;

use tempfile::TempDir;
use trilith_core::config::DiskKind;

use super::*;

fn disks() -> (TempDir, Disks) {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let places = Places {
        block: place("sys"),
        devices: place("dev"),
        udev: place("udev"),
        wishes: place("osds"),
        sockets: place("run"),
    };
    (folder, Disks { places, files: Watched::default(), again: None, requests: 0 })
}

fn put(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_disk_is_what_the_kernel_and_udev_say() {
    let (_folder, mut disks) = disks();
    let Places { block, devices, udev, .. } = &disks.places;
    put(&block.join("sda/size"), "20480\n");
    put(&block.join("sda/dev"), "8:0\n");
    put(&block.join("sda/queue/rotational"), "1\n");
    put(&block.join("sda/device/model"), "ST4000   \n");
    put(&udev.join("b8:0"), "I:1\nE:ID_SERIAL=ST4000_Z1\nE:ID_SERIAL_SHORT=Z1\n");
    put(&devices.join("sda"), "");
    put(&devices.join("disk/by-path/x"), "");
    // Of the host, and not of this container.
    put(&block.join("sdb/size"), "1\n");
    std::fs::create_dir_all(devices.join("disk/by-id")).unwrap();
    symlink("../../sda", devices.join("disk/by-id/ata-1")).unwrap();
    let rules = vec![trilith_core::osds::Rule::default()];
    let desired = Desired { cluster: "F".into(), node: 1, rules, system: None };
    let observed = disks.look(&desired).await.unwrap();
    let expected = Block {
        ids: ["ata-1".to_owned()].into(),
        serial: Some("Z1".into()),
        model: Some("ST4000".into()),
        kind: Some(DiskKind::Hdd),
        size: 10 << 20,
        ..Block::default()
    };
    assert_eq!(observed.disks, [("sda".to_owned(), expected)].into());
}

#[tokio::test]
async fn wishes_come_and_go_and_have_outcomes() {
    let (_folder, mut disks) = disks();
    let wish = Wish("DEVICE=/dev/sda\n".into());
    let step = Step::Wish { disk: "sda".into(), wish: wish.clone() };
    disks.places.carry_out(&step).unwrap();
    let desired = Desired::default();
    let observed = disks.look(&desired).await.unwrap();
    assert_eq!(observed.wishes, [("sda".to_owned(), wish)].into());
    assert!(observed.outcomes.is_empty());
    std::fs::write(disks.places.wish("sda").join("state"), "osd 3\n").unwrap();
    Host::<Osds>::changed(&mut disks).await;
    let outcomes = disks.look(&desired).await.unwrap().outcomes;
    assert_eq!(outcomes, [("sda".to_owned(), "osd 3".to_owned())].into());
    disks.places.carry_out(&Step::Unwish("sda".into())).unwrap();
    assert!(disks.look(&desired).await.unwrap().wishes.is_empty());
    disks.places.carry_out(&Step::Unwish("sda".into())).unwrap();
}
