use std::collections::BTreeSet;

use time::OffsetDateTime;
use trilith_core::bundle::Bundle;
use trilith_core::config::{self, Config};
use trilith_core::names::NodeId;
use trilith_core::secrets::certificate::Certificate;

use super::*;

const HOMELAB: &str = include_str!("../../../../tests/clusters/valid/homelab.yaml");

fn start() -> (Config, ClusterSecrets, OffsetDateTime) {
    let config = config::load(HOMELAB).unwrap();
    let now = OffsetDateTime::now_utc();
    let secrets = make::cluster(&config, Vec::new(), now).unwrap();
    (config, secrets, now)
}

fn bundle(config: &Config, secrets: &ClusterSecrets) -> Bundle {
    let node = NodeId::try_from(1).unwrap();
    let share = secrets.share(config, config.node(node).unwrap()).unwrap();
    let signer = &secrets.authority.current.key;
    Bundle::parse(&Bundle::write(node, HOMELAB, &share, signer).unwrap()).unwrap()
}

/// Whether a node with the bundle `here` takes the certificate of a node with the bundle `there`.
fn trusts(here: &Bundle, there: &Bundle) -> bool {
    let trusted = Certificate::read_all(&here.secrets.identity.authority).unwrap();
    let other = Certificate::read(&there.secrets.identity.certificate).unwrap();
    trusted.iter().any(|authority| other.is_signed_by(authority))
}

#[test]
fn no_step_of_replacing_the_authority_divides_the_cluster() {
    let (config, mut secrets, now) = start();
    let first = secrets.authority.current.clone();
    let mut bundles = vec![bundle(&config, &secrets)];
    for step in ["step 1 of 3", "step 2 of 3", "step 3 of 3"] {
        let said = rotate(&mut secrets, &config, &Kind::Authority, now).unwrap();
        assert!(said.starts_with(step), "{said}");
        bundles.push(bundle(&config, &secrets));
        let [.., before, after] = bundles.as_slice() else { unreachable!() };
        assert!(trusts(before, after) && trusts(after, before), "{step}");
    }
    let trusted =
        |at: usize| Certificate::read_all(&bundles[at].secrets.identity.authority).unwrap().len();
    assert_eq!([trusted(0), trusted(1), trusted(2), trusted(3)], [1, 2, 2, 1]);
    assert!(!trusts(&bundles[3], &bundles[0]), "the old one counts no more");
    assert_ne!(secrets.authority.current, first);
    assert_eq!((&secrets.authority.next, &secrets.authority.last), (&None, &None));
}

#[test]
fn every_other_secret_is_replaced_alone() {
    let (config, before, now) = start();
    let mut seen = BTreeSet::new();
    for (name, kind) in Kind::all(&before) {
        if kind == Kind::Authority {
            continue;
        }
        let mut after = before.clone();
        rotate(&mut after, &config, &kind, now).unwrap();
        bundle(&config, &after);
        let changed = changed(&before, &after);
        assert_eq!(
            changed.len(),
            if kind == Kind::Certificates { 2 } else { 1 },
            "{name}: {changed:?}"
        );
        assert!(
            kind == Kind::Operator || seen.insert(changed),
            "{name} replaces what another does"
        );
    }
}

/// The names of the values that differ, ceph's keys each for itself.
fn changed(before: &ClusterSecrets, after: &ClusterSecrets) -> Vec<String> {
    let ClusterSecrets { operator, nodes, ceph, zookeeper, postgres, bgp, .. } = after;
    let own = |of: &ClusterSecrets, host: bool| -> Vec<String> {
        let pick = |own: &super::super::store::NodeOwn| {
            let secret = if host { &own.ssh_host_key } else { &own.identity.key };
            secret.reveal().to_owned()
        };
        of.nodes.values().map(pick).collect()
    };
    assert_eq!(nodes.len(), before.nodes.len());
    let mut names: Vec<String> = [
        ("operator", *operator != before.operator),
        ("identities", own(before, false) != own(after, false)),
        ("host keys", own(before, true) != own(after, true)),
        ("zookeeper agent", zookeeper.agent != before.zookeeper.agent),
        ("zookeeper patroni", zookeeper.patroni != before.zookeeper.patroni),
        ("postgres superuser", postgres.superuser != before.postgres.superuser),
        ("postgres replication", postgres.replication != before.postgres.replication),
        ("postgres rewind", postgres.rewind != before.postgres.rewind),
        ("bgp", *bgp != before.bgp),
    ]
    .into_iter()
    .filter(|(_, changed)| *changed)
    .map(|(name, _)| name.to_owned())
    .collect();
    let keys = ceph.keys.iter().filter(|(entity, key)| before.ceph.keys.get(*entity) != Some(key));
    names.extend(keys.map(|(entity, _)| entity.clone()));
    names
}
