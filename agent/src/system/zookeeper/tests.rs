//! The data directory as files, and servers that do or do not let anybody in.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use trilith_core::turns::Seen;

const CLUSTER: &str = "6b1e1c5e-7c31-4c4f-9f0a-0d5a3c7d9a11";

fn places() -> (TempDir, Places) {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("data");
    std::fs::create_dir(&directory).unwrap();
    let permit = folder.path().join("permits/zookeeper");
    let turns = Turns::below(folder.path());
    (folder, Places { directory, permit, turns })
}

fn desired(members: u16) -> Desired {
    let node = |number: u16| NodeId::try_from(number).unwrap();
    let name = |number: u16| format!("node{number}").try_into().unwrap();
    let members = (1..=members).map(|number| (node(number), name(number))).collect();
    Desired { node: node(1), members, cluster: CLUSTER.into() }
}

/// Carries out what is planned, as often as it takes, and returns all of it.
fn settle(places: &Places, desired: &Desired, others: &Others) -> Vec<String> {
    use trilith_core::subject::Subject as _;
    let mut done = Vec::new();
    loop {
        let observed = Observed {
            directory: places.look().unwrap(),
            permit: places.permit.exists(),
            server: Server::Alone,
            turn: Seen::default(),
            others: others.clone(),
        };
        let steps = ZooKeeper::plan(desired, &observed).steps;
        if steps.is_empty() {
            return done;
        }
        for step in steps {
            places.carry_out(&step).unwrap();
            done.push(step.to_string());
        }
    }
}

#[test]
fn a_founding_directory_is_what_the_server_needs() {
    let (_folder, places) = places();
    let done = settle(&places, &desired(1), &BTreeMap::new());
    assert_eq!(done.len(), 4, "{done:?}");
    let found = places.look().unwrap();
    assert_eq!(found.myid.as_deref(), Some("1"));
    assert_eq!(found.cluster.as_deref(), Some(CLUSTER));
    assert!(found.initialize && places.permit.exists());
    assert_eq!(settle(&places, &desired(1), &BTreeMap::new()), Vec::<String>::new());
}

/// What a server leaves behind that was started without data and without `initialize`.
#[test]
fn the_remains_of_an_attempt_to_join_are_cleared_before_founding() {
    let (_folder, places) = places();
    let version = places.directory.join("version-2");
    std::fs::create_dir(&version).unwrap();
    std::fs::write(version.join("currentEpoch"), "-1").unwrap();
    std::fs::write(version.join("acceptedEpoch"), "-1").unwrap();
    assert_eq!(places.look().unwrap().epoch, Some(-1));
    let done = settle(&places, &desired(1), &BTreeMap::new());
    assert!(done[0].contains("version-2"), "{done:?}");
    assert!(!version.exists());
}

#[test]
fn snapshots_and_logs_are_the_database() {
    let (_folder, places) = places();
    let version = places.directory.join("version-2");
    std::fs::create_dir(&version).unwrap();
    for name in ["snapshot.0", "log.100000001", "currentEpoch", "snapshot.tmp1"] {
        std::fs::write(version.join(name), "2").unwrap();
    }
    let found = places.look().unwrap();
    let files = ["snapshot.0", "log.100000001", "snapshot.tmp1"].map(str::to_owned);
    assert_eq!((found.epoch, found.files), (Some(2), files.into()));
}

#[test]
fn a_foreign_directory_is_left_as_it_is() {
    let (_folder, places) = places();
    std::fs::write(places.directory.join("myid"), "7\n").unwrap();
    assert_eq!(settle(&places, &desired(1), &BTreeMap::new()), Vec::<String>::new());
    assert!(!places.permit.exists());
    assert_eq!(std::fs::read_to_string(places.directory.join("myid")).unwrap(), "7\n");
}
