//! Golden plans, and what a bundle and a partition table mean.

use super::*;
use crate::config;
use crate::install::ESP;
use crate::names::NodeId;
use crate::secrets::sample;

const FIVE: &str = include_str!("../../../../tests/clusters/valid/five.yaml");

#[test]
fn golden_plans() {
    crate::golden::check::<Keep>("keep", 20);
}

fn desired(id: u16) -> Desired {
    let node = NodeId::try_from(id).unwrap();
    let secrets = sample::secrets(&config::load(FIVE).unwrap(), node);
    Desired::of(&Bundle::parse(&sample::bundle(node, FIVE, &secrets).unwrap()).unwrap(), false)
}

#[test]
fn an_installed_node_has_its_var_elsewhere() {
    assert_eq!(desired(10), Desired::Memory);
    let Desired::Rule(rule) = desired(300) else { panic!("no rule") };
    assert_eq!(rule.wipe.len(), 1);
}

#[test]
fn only_a_partition_alone_and_of_its_own_label_is_kept() {
    let part = Part { number: 1, kind: VAR_TYPE.into(), uuid: "u".into(), label: LABEL.into() };
    assert!(Kept::of(std::slice::from_ref(&part)).is_some());
    assert_eq!(Kept::of(&[]), None);
    assert_eq!(Kept::of(&[part.clone(), part.clone()]), None);
    // That of the image that makes its /var beside it, and of an installed disk.
    assert_eq!(Kept::of(&[Part { label: "trilith-var".into(), ..part.clone() }]), None);
    assert_eq!(Kept::of(&[Part { kind: ESP.into(), ..part }]), None);
}

#[test]
fn only_a_disk_that_is_not_there_yet_is_waited_for() {
    let with = |disks: Vec<(&str, Candidate)>| Observed {
        disks: disks.into_iter().map(|(name, disk)| (name.to_owned(), disk)).collect(),
    };
    let mut disk = Candidate::default();
    disk.block.size = 1 << 40;
    disk.block.serial = Some("SA".into());
    let rule = |serial: &str| {
        let disk = Disk { serial: Some(serial.into()), ..Disk::default() };
        Desired::Rule(Box::new(Rule { disk, ..Rule::default() }))
    };
    let here = with(vec![("sda", disk.clone())]);
    assert!(rule("SA").asks_what_is_on(&disk) && !rule("SB").asks_what_is_on(&disk));
    assert!(!Desired::Kept.asks_what_is_on(&disk));
    assert!(rule("SA").is_decided(&here) && !rule("SB").is_decided(&here));
    assert!(!Desired::Kept.is_decided(&here) && Desired::Memory.is_decided(&with(vec![])));
    let part = Part { number: 1, kind: VAR_TYPE.into(), uuid: "u".into(), label: LABEL.into() };
    disk.kept = Kept::of(&[part]);
    assert!(Desired::Kept.is_decided(&with(vec![("sda", disk)])));
}

#[test]
fn a_person_reads_where_var_is_and_why() {
    let kept = Outcome::Disk("sda".into());
    assert_eq!(kept.text(true), "started from the network: what this node writes is kept on sda");
    assert_eq!(kept.problem(), None);
    let memory = "started from a medium: all that this node writes is kept in memory, and lost when it stops";
    assert_eq!(Outcome::Memory(Vec::new()).text(false), memory);
    let why = ["no disk fits the rule", "too small"];
    let why = [problem("var_disk", why[0].into()), problem("sda", why[1].into())];
    let refused = Outcome::Memory(why.into());
    let first = "is in memory: var_disk: no disk fits the rule";
    assert_eq!(refused.text(false), format!("{memory}\n/var {first}\n  sda: too small"));
    assert_eq!(kept.clone().judged(true), kept);
    assert_eq!(refused.clone().judged(true), refused);
    assert_eq!(Outcome::Memory(Vec::new()).judged(false).problem(), None);
    assert!(Outcome::Memory(Vec::new()).judged(true).problem().is_some());
    assert_eq!(Outcome::parse(&refused.yaml().unwrap()).unwrap(), refused);
    assert_eq!(refused.problem(), Some(problem("/var", first.into())));
}

/// The least is what overlays/initrd asks for, under the label that is looked for.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads the definition")]
fn the_definition_is_what_is_looked_for() {
    let top = concat!(env!("CARGO_MANIFEST_DIR"), "/../../overlays/initrd/rootfs/usr/lib/trilith");
    let text = std::fs::read_to_string(format!("{top}/kept-var/10-var.conf")).unwrap();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    assert_eq!((value("Type="), value("Label=")), (VAR_TYPE, LABEL));
    assert_eq!(value("SizeMinBytes="), format!("{}G", LEAST >> 30));
}
