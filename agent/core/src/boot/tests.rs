use super::*;

const HASH: &str = "2d346c08cb232a556e191f1a8c5c11f76376748f1ebf1a493eb4eb81504db077";

fn root() -> RootHash {
    RootHash::of_command_line(&format!("quiet roothash={HASH} ro")).unwrap()
}

/// A disk with this release, its first partition the ESP.
fn disk(name: &str, esp: &str, medium: bool) -> Vec<Partition> {
    let part = |number: u8, uuid: &str, kind: &str| Partition {
        name: format!("{name}{number}"),
        disk: name.into(),
        uuid: uuid.into(),
        kind: kind.into(),
        optical: false,
    };
    let mut parts = vec![
        part(1, esp, "esp"),
        part(2, &root().data(), "root"),
        part(3, &root().tree(), "verity"),
    ];
    parts.extend(medium.then(|| part(4, "config", CONFIG_TYPE)));
    parts
}

fn from(uuid: &str) -> Loader {
    Loader::Partition(uuid.into())
}

fn found(boot: Option<Boot>) -> Option<(String, Option<String>)> {
    boot.map(|boot| (boot.disk, boot.config))
}

#[test]
fn the_hash_is_two_uuids() {
    assert_eq!(root().data(), "2d346c08-cb23-2a55-6e19-1f1a8c5c11f7");
    assert_eq!(root().tree(), "6376748f-1ebf-1a49-3eb4-eb81504db077");
    for none in ["", "roothash=", "roothash=12", &format!("roothash={}", HASH.to_uppercase())] {
        assert_eq!(RootHash::of_command_line(none), None);
    }
}

#[test]
fn of_two_disks_with_the_same_release_the_booted_one_counts() {
    let mut all = disk("sda", "esp-a", false);
    all.extend(disk("sdb", "esp-b", true));
    let find = |loader| found(find(&root(), &loader, &all));
    assert_eq!(find(from("ESP-A")), Some(("sda".into(), None)));
    assert_eq!(find(from("esp-b")), Some(("sdb".into(), Some("sdb4".into()))));
    assert_eq!(find(from("esp-c")), None, "it is still to come");
    assert_eq!(find(Loader::Silent), None, "nobody guesses");
}

#[test]
fn what_was_fetched_counts_whatever_else_there_is() {
    let mut all = disk("sda", "esp-a", false);
    assert_eq!(find_fetched(&root(), "loop0", &all), None, "it is still to come");
    all.extend(disk("loop0", "esp-a", false));
    let boot = find_fetched(&root(), "loop0", &all).unwrap();
    assert!(boot.fetched && boot.disk == "loop0" && boot.data == "loop02" && boot.hash == "loop03");
}

#[test]
fn a_disc_has_no_loader_partition() {
    let mut all = disk("sda", "esp-a", false);
    let find = |loader, all: &[Partition]| found(find(&root(), &loader, all));
    assert_eq!(find(Loader::NoPartition, &all), None, "the disc is still to come");
    assert_eq!(find(Loader::Silent, &all), Some(("sda".into(), None)));
    let mut disc = disk("loop0", "esp-b", true);
    for part in &mut disc {
        part.optical = true;
    }
    all.extend(disc);
    let booted = Some(("loop0".into(), Some("loop04".into())));
    assert_eq!(find(Loader::NoPartition, &all), booted);
}

#[test]
fn only_an_installed_disk_can_lose_its_var() {
    let part = |disk: &str, kind: &str| Partition {
        name: "x".into(),
        disk: disk.into(),
        uuid: "u".into(),
        kind: kind.into(),
        optical: false,
    };
    let one = vec![part("a", ROOT_TYPE)];
    assert!(!lacks_var("a", &one));
    let mut two = vec![part("a", ROOT_TYPE), part("a", ROOT_TYPE), part("b", VAR_TYPE)];
    assert!(lacks_var("a", &two));
    two.push(part("a", VAR_TYPE));
    assert!(!lacks_var("a", &two));
}

#[test]
fn a_disk_is_there_when_all_of_it_is() {
    let all = disk("sda", "esp-a", true);
    assert_eq!(find(&root(), &from("esp-a"), &all[..2]), None);
    assert_eq!(find(&root(), &from("esp-a"), &[]), None);
}
