//! Golden plans.

use super::*;

#[test]
fn golden_plans() {
    crate::golden::check::<Ceph>("ceph", 16);
}

/// What `monmaptool --addv` takes.
#[test]
fn monitors_of_both_families() {
    let id = |number: u16| NodeId::try_from(number).unwrap();
    let name = |number: u16| NodeName::try_from(format!("n{number}")).unwrap();
    let desired = Desired {
        node: id(1),
        members: [(id(1), name(1)), (id(2), name(2))].into(),
        addresses: [(id(1), "10.0.0.1".parse().unwrap()), (id(2), "fd00::2".parse().unwrap())]
            .into(),
        cluster: "F".into(),
    };
    let expected = "FSID=F\nMONITORS=\"n1=[v2:10.0.0.1:3300/0] n2=[v2:[fd00::2]:3300/0]\"\n";
    assert_eq!(permission(&desired, MakeStore::No), expected);
    assert_eq!(permission(&desired, MakeStore::Yes), format!("{expected}MAKE_STORE=yes\n"));
}
