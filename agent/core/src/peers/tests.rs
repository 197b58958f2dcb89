//! What is told, and what is not.

use super::*;
use crate::config;
use crate::machines::{Hosting, Machine};
use crate::quorum::Data;
use crate::status::{BundleStatus, Lag, NodeIdentity, Problem, SubjectStatus};
use crate::turns::{Stand, Vote};

fn status() -> NodeStatus {
    let mut zookeeper = SubjectStatus::waiting("network", 1);
    let reason = "is not there".to_owned();
    zookeeper.state = State::Degraded { problems: vec![Problem { object: "myid".into(), reason }] };
    let vote = Vote { node: 1.try_into().unwrap(), ticket: 7 };
    zookeeper.details = Details {
        data: Some(Data::Empty),
        role: Some("follower".into()),
        lag: Some(Lag { behind: 3, unit: "transactions".into() }),
        turn: Some(Stand { asks: Some(1), vote: Some(vote), holds: true }),
        hosting: Some(Hosting {
            machines: BTreeMap::from([("uuid".into(), Machine::default())]),
            ..Hosting::default()
        }),
        ..Details::default()
    };
    NodeStatus {
        version: "0.1.0".into(),
        node: Some(NodeIdentity { cluster: "lab".into(), id: 2, name: "node2".into() }),
        bundle: BundleStatus::default(),
        subjects: BTreeMap::from([("zookeeper".to_owned(), zookeeper)]),
        peers: BTreeMap::new(),
        addresses: Vec::new(),
        sighting: None,
        installation: None,
        trial: None,
        update: None,
    }
}

#[test]
fn counters_and_positions_are_no_news() {
    let facts = Facts::of(&status(), "boot").unwrap();
    let mut later = status();
    let zookeeper = later.subjects.get_mut("zookeeper").unwrap();
    zookeeper.passes = 7;
    zookeeper.since = 9;
    zookeeper.details.lag = None;
    assert_eq!(Facts::of(&later, "boot").unwrap(), facts);
    assert_eq!(facts.details("zookeeper").data, Some(Data::Empty));
    assert_eq!(facts.subjects["zookeeper"].reason.as_deref(), Some("degraded: myid: is not there"));
}

#[test]
fn a_node_without_a_name_says_nothing() {
    assert_eq!(Facts::of(&NodeStatus { node: None, ..status() }, "boot"), None);
}

#[test]
fn facts_survive_the_wire_and_unknown_fields() {
    let facts = Facts::of(&status(), "boot").unwrap();
    let mut json = serde_json::to_value(&facts).unwrap();
    json["new"] = 1.into();
    let health = &mut json["subjects"]["zookeeper"];
    health["new"] = 1.into();
    let details = &mut health["details"];
    details["new"] = 1.into();
    details["turn"]["new"] = 1.into();
    details["turn"]["vote"]["new"] = 1.into();
    details["hosting"]["new"] = 1.into();
    details["hosting"]["machines"]["uuid"]["new"] = 1.into();
    assert_eq!(serde_json::from_value::<Facts>(json).unwrap(), facts);
}

#[test]
fn the_circle_follows_the_other_coordinators() {
    let config =
        config::load(include_str!("../../../../tests/clusters/valid/homelab.yaml")).unwrap();
    let id = |number: u16| NodeId::try_from(number).unwrap();
    let circle = Circle::new(&config, id(1)).unwrap();
    assert!(!circle.followed.contains(&id(1)));
    assert_eq!(circle.followed.len() + 1, config.coordinators.len());
    assert_eq!(circle.others.len() + 1, config.nodes.len());
    assert_eq!(circle.me.host, format!("{}.{}", circle.me.name, config.domain));
    assert!(Circle::new(&config, id(99)).is_none());
}
