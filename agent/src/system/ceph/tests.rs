//! Stores as files, and an admin socket that speaks as Ceph's do.

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use trilith_core::names::{NodeId, NodeName};

use super::*;

fn places() -> (TempDir, Places) {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let places = Places {
        monitors: place("mon"),
        monitor_permit: place("permits/ceph-mon"),
        manager_permit: place("permits/ceph-mgr"),
        sockets: place("run"),
        osds: place("osd"),
        turns: Turns::below(folder.path()),
    };
    (folder, places)
}

#[test]
fn stores_and_their_marks() {
    let (_folder, places) = places();
    assert!(places.stores().unwrap().is_empty());
    let store = places.store("node1");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::create_dir(places.monitors.join(".new-node1")).unwrap();
    assert_eq!(places.stores().unwrap(), [("node1".into(), Store::default())].into());
    std::fs::write(store.join("cluster"), "F\n").unwrap();
    let name = NodeName::try_from("node1".to_owned()).unwrap();
    places.carry_out(&Step::Settle(name)).unwrap();
    let whole = Store { cluster: Some("F".into()), quorum: true };
    assert_eq!(places.stores().unwrap(), [("node1".into(), whole)].into());
}

#[test]
fn permissions_come_and_go() {
    let (_folder, places) = places();
    places.carry_out(&Step::PermitMonitor("FSID=F\n".into())).unwrap();
    places.carry_out(&Step::PermitManager).unwrap();
    assert_eq!(std::fs::read_to_string(&places.monitor_permit).unwrap(), "FSID=F\n");
    places.carry_out(&Step::Forbid).unwrap();
    assert!(!places.monitor_permit.exists() && !places.manager_permit.exists());
    places.carry_out(&Step::Forbid).unwrap();
}

#[tokio::test]
async fn a_monitor_is_asked_over_its_socket() {
    let (_folder, places) = places();
    std::fs::create_dir(&places.sockets).unwrap();
    let node = NodeId::try_from(1).unwrap();
    let name = NodeName::try_from("node1".to_owned()).unwrap();
    let desired = Desired {
        node,
        members: [(node, name)].into(),
        addresses: BTreeMap::new(),
        cluster: "F".into(),
    };
    let path = places.socket(&desired).unwrap();
    assert!(admin_socket::ask(&path, "mon_status").await.is_err(), "nobody listens");
    let listener = UnixListener::bind(&path).unwrap();
    let answers = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut question = Vec::new();
        while question.last() != Some(&0) {
            question.push(stream.read_u8().await.unwrap());
        }
        let json =
            br#"{"state":"leader","quorum":[0],"monmap":{"mons":[{"rank":0,"name":"node1"}]}}"#;
        stream.write_u32(u32::try_from(json.len()).unwrap()).await.unwrap();
        stream.write_all(json).await.unwrap();
        String::from_utf8(question).unwrap()
    };
    let (question, answer) = tokio::join!(answers, admin_socket::ask(&path, "mon_status"));
    assert!(question.contains(r#""prefix":"mon_status""#), "{question}");
    let quorum = vec!["node1".to_owned()];
    let expected = Monitor::In { role: "leader".into(), leader: "node1".into(), quorum };
    assert_eq!(answer::parse(&answer.unwrap()), expected);
}
