//! What a node gets, what is made when, and how the authority is replaced.

use std::collections::BTreeSet;

use time::{Duration, OffsetDateTime};
use trilith_core::bundle::Bundle;
use trilith_core::config::{self, Config};
use trilith_core::names::{ClusterName, NodeId, SecretName};
use trilith_core::secrets::Secret;
use trilith_core::secrets::certificate::Certificate;
use trilith_core::secrets::needs::all_named;

use super::store::ClusterSecrets;
use super::{authority, init, make};

const HOMELAB: &str = include_str!("../../../tests/clusters/valid/homelab.yaml");
const EIGHT: &str = include_str!("../../../tests/clusters/valid/eight.yaml");
const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::days(365 * 56));

fn id(number: u16) -> NodeId {
    NodeId::try_from(number).unwrap()
}

/// The secrets of a cluster, with those that its file names.
fn secrets(text: &str) -> (Config, ClusterSecrets) {
    let config = config::load(text).unwrap();
    let mut secrets = make::cluster(&config, Vec::new(), NOW).unwrap();
    for name in all_named(&config) {
        let value = Secret::from(format!("the-{name}"));
        secrets.named.insert(name, value);
    }
    (config, secrets)
}

/// The text of a node's bundle, judged as the agent does.
fn bundle(text: &str, secrets: &ClusterSecrets, node: u16) -> Bundle {
    let config = config::load(text).unwrap();
    let share = secrets.share(&config, config.node(id(node)).unwrap()).unwrap();
    Bundle::parse(&Bundle::write(id(node), text, &share, &secrets.authority.current.key).unwrap())
        .unwrap()
}

#[test]
fn every_node_of_the_samples_gets_a_bundle_that_its_agent_takes() {
    for text in [HOMELAB, EIGHT] {
        let (config, secrets) = secrets(text);
        for node in config.nodes.keys() {
            bundle(text, &secrets, (*node).into());
        }
    }
}

#[test]
fn a_hypervisor_gets_nothing_that_is_the_coordinators() {
    let (config, secrets) = secrets(EIGHT);
    let share = bundle(EIGHT, &secrets, 2).secrets;
    let entities: Vec<&str> = share.ceph.keys.keys().map(String::as_str).collect();
    assert_eq!(entities, ["client.bootstrap-osd", "client.libvirt", "client.trilith"]);
    assert_eq!((share.postgres.as_ref(), share.zookeeper.patroni.as_ref()), (None, None));
    assert!(share.named.is_empty(), "nor the passwords of routers and management controllers");

    // Looked for in the text itself: whatever is secret and not in the share must not be there either.
    let node = config.node(id(2)).unwrap();
    let text = Bundle::write(node.id, EIGHT, &share, &secrets.authority.current.key).unwrap();
    let others = secrets.nodes.iter().filter(|(other, _)| **other != node.id);
    let mut forbidden: Vec<&Secret> = vec![
        &secrets.authority.current.key,
        &secrets.operator.key,
        &secrets.postgres.superuser,
        &secrets.postgres.replication,
        &secrets.postgres.rewind,
        secrets.zookeeper.patroni.as_ref().unwrap(),
    ];
    forbidden.extend(others.flat_map(|(_, own)| [&own.identity.key, &own.ssh_host_key]));
    for entity in ["mon.", "client.admin", "mgr.r1n1", "mgr.r2n1", "mgr.r3n1"] {
        forbidden.push(&secrets.ceph.keys[entity]);
    }
    for secret in forbidden {
        // The first lines of a key file are the same in all.
        let telling = secret.reveal().lines().nth(2).unwrap_or(secret.reveal());
        assert!(!text.contains(telling));
    }
}

#[test]
fn a_coordinator_gets_the_keys_of_all_that_it_may_found() {
    let (_, secrets) = secrets(EIGHT);
    let share = bundle(EIGHT, &secrets, 4).secrets;
    let entities: Vec<&str> = share.ceph.keys.keys().map(String::as_str).collect();
    let all = [
        "client.admin",
        "client.bootstrap-osd",
        "client.libvirt",
        "client.trilith",
        "mgr.r1n1",
        "mgr.r2n1",
        "mgr.r3n1",
        "mon.",
    ];
    assert_eq!(entities, all);
    assert!(share.postgres.is_some() && share.zookeeper.patroni.is_some());
    let named: Vec<&str> = share.named.keys().map(SecretName::as_str).collect();
    assert_eq!(named, ["bgp-core", "bmc"]);
}

#[test]
fn nothing_is_made_twice() {
    let (config, secrets) = secrets(EIGHT);
    let mut again = secrets.clone();
    make::complete(&mut again, &config, NOW + Duration::days(365)).unwrap();
    assert_eq!(again, secrets);
    let passwords = [
        &secrets.bgp,
        &secrets.zookeeper.agent,
        &secrets.postgres.superuser,
        &secrets.postgres.replication,
        &secrets.postgres.rewind,
    ];
    let different: BTreeSet<&str> = passwords.iter().map(|password| password.reveal()).collect();
    assert_eq!(different.len(), passwords.len());
    assert!(different.iter().all(|password| password.len() == 32));
}

#[test]
fn a_new_node_gets_its_own_and_others_keep_theirs() {
    let (_, mut secrets) = secrets(HOMELAB);
    let before = secrets.clone();
    let more = format!(
        "{HOMELAB}  - id: 4\n    name: hv4\n    match: {{mac: [\"52:54:00:00:04:00\"]}}\n    \
         links: {{lan: {{nic: {{mac: \"52:54:00:00:04:00\"}}}}}}\n"
    );
    make::complete(&mut secrets, &config::load(&more).unwrap(), NOW).unwrap();
    assert_eq!(secrets.nodes.len(), 4);
    assert!(before.nodes.iter().all(|(id, own)| secrets.nodes[id] == *own));
    bundle(&more, &secrets, 4);
}

#[test]
fn a_changed_address_or_age_renews_the_certificate_and_nothing_else() {
    let (config, before) = secrets(HOMELAB);
    let mut secrets = before.clone();
    let moved = HOMELAB.replace("10.10.0.", "10.20.0.");
    make::complete(&mut secrets, &config::load(&moved).unwrap(), NOW).unwrap();
    let (old, new) = (&before.nodes[&id(1)], &secrets.nodes[&id(1)]);
    assert_ne!(old.identity, new.identity);
    assert_eq!(old.ssh_host_key, new.ssh_host_key);
    bundle(&moved, &secrets, 1);

    let mut secrets = before.clone();
    make::complete(&mut secrets, &config, NOW + Duration::days(365 * 2)).unwrap();
    assert_eq!(secrets, before, "not half over yet");
    make::complete(&mut secrets, &config, NOW + Duration::days(365 * 3)).unwrap();
    assert_ne!(secrets.nodes[&id(1)].identity, before.nodes[&id(1)].identity);
    assert_ne!(secrets.operator, before.operator);
    assert_eq!(secrets.authority, before.authority);
}

#[test]
fn the_cluster_file_to_start_from_is_right() {
    let name = ClusterName::try_from("attic".to_owned()).unwrap();
    let (_, public) = make::ssh_key("admin@attic").unwrap();
    let text = init::cluster_file(&name, &public);
    let judged = config::judge(&text);
    assert_eq!(judged.problems, [], "{text}");
    assert_eq!(judged.config.unwrap().nodes.len(), 3);
    assert!(text.lines().all(|line| line.len() <= 150));
}

#[test]
fn certificates_hold_from_yesterday_and_for_years() {
    let pair = authority::new("home", NOW).unwrap();
    let authority = Certificate::read(&pair.certificate).unwrap();
    assert_eq!(authority.not_before, (NOW - Duration::days(1)).unix_timestamp());
    assert_eq!(authority.not_after, (NOW + Duration::days(365 * 20)).unix_timestamp());
    assert!(authority.authority && !authority.server && !authority.client);
    assert!(authority.is_signed_by(&authority));
    assert_eq!(authority.belongs_to(&pair.key), Ok(true));
}
