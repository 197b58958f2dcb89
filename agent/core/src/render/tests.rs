//! Golden trees of whole nodes, with secrets that anybody may see.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Facts, services};
use crate::config::{self, Config, Node, Role};
use crate::names::{NodeId, SecretName};
use crate::secrets::{Ceph, Identity, NodeSecrets, Postgres, Secret, ZooKeeper};
use crate::services::{Desired, owned};

const SAMPLES: [(&str, &str, &[u16]); 4] = [
    ("homelab", include_str!("../../../../tests/clusters/valid/homelab.yaml"), &[1]),
    ("bonds", include_str!("../../../../tests/clusters/valid/bonds.yaml"), &[2]),
    ("eight", include_str!("../../../../tests/clusters/valid/eight.yaml"), &[1, 8]),
    ("five", include_str!("../../../../tests/clusters/valid/five.yaml"), &[14, 300]),
];

fn secret(name: impl std::fmt::Display) -> Secret {
    Secret::from(format!("secret-of-{name}"))
}

fn pem(what: &str) -> String {
    format!("-----BEGIN {what}-----\nnot a real one\n-----END {what}-----\n")
}

/// The same at each call, and all that the node could need.
fn secrets(config: &Config, node: &Node) -> NodeSecrets {
    let coordinates = node.role == Role::Coordinator;
    let mut entities = vec!["client.libvirt".to_owned(), "client.trilith".to_owned()];
    if coordinates {
        entities.extend(["mon.", "client.admin"].map(str::to_owned));
        entities.extend(config.coordinator_nodes().map(|node| format!("mgr.{}", node.name)));
    }
    if coordinates || !node.osds.is_empty() {
        entities.push("client.bootstrap-osd".into());
    }
    let peers = config.settings.frr.iter().flat_map(|frr| &frr.peers);
    let named: BTreeSet<&SecretName> = peers.filter_map(|peer| peer.secret.as_ref()).collect();
    NodeSecrets {
        identity: Identity {
            authority: pem("CERTIFICATE"),
            certificate: pem("CERTIFICATE"),
            key: Secret::from(pem("PRIVATE KEY")),
        },
        ceph: Ceph {
            fsid: "5f5be4a3-1f1c-4c9b-8a53-0c7e7e9a4b11".into(),
            keys: entities.into_iter().map(|name| (name.clone(), secret(name))).collect(),
            libvirt_uuid: "0d0d7e3e-6b0e-4d7b-9b43-8c2e54f8a9c2".into(),
        },
        zookeeper: ZooKeeper {
            agent: secret("zookeeper-agent"),
            patroni: coordinates.then(|| secret("zookeeper-patroni")),
        },
        postgres: coordinates.then(|| Postgres {
            superuser: secret("postgres-superuser"),
            replication: secret("postgres-replication"),
            rewind: secret("postgres-rewind"),
        }),
        bgp: secret("bgp"),
        ssh_host_key: Secret::from(pem("OPENSSH PRIVATE KEY")),
        named: named.into_iter().map(|name| (name.clone(), secret(name))).collect(),
    }
}

fn node_services(config: &Config, id: u16) -> Desired {
    let id = NodeId::try_from(id).unwrap();
    let secrets = secrets(config, config.node(id).unwrap());
    services(Facts::new(config, id, &secrets).unwrap())
}

#[test]
fn golden_trees() {
    for (name, text, nodes) in SAMPLES {
        let config = config::load(text).unwrap();
        for id in nodes {
            let desired = node_services(&config, *id);
            let mut tree: BTreeMap<String, String> = desired
                .files
                .iter()
                .map(|(path, file)| (path.trim_start_matches('/').into(), file.content.clone()))
                .collect();
            tree.insert("files.txt".into(), files(&desired));
            tree.insert("units.yaml".into(), units(&desired));
            crate::golden::check_tree(&format!("{name}-node{id}"), &tree);
        }
    }
}

/// Modes, owners and checkers.
fn files(desired: &Desired) -> String {
    let mut text = String::new();
    for (path, file) in &desired.files {
        let checker = file.checker.map_or_else(String::new, |checker| format!(", {checker}"));
        writeln!(text, "{path} {:04o} {}{checker}", file.mode, file.owner).unwrap();
    }
    text
}

fn units(desired: &Desired) -> String {
    serde_yaml::to_string(&desired.units).unwrap()
        + &serde_yaml::to_string(&desired.instances).unwrap()
}

/// What is no longer asked for must be found again.
#[test]
fn everything_is_owned() {
    for (_, text, nodes) in SAMPLES {
        let config = config::load(text).unwrap();
        for id in nodes {
            let desired = node_services(&config, *id);
            for unit in desired.units.keys() {
                assert!(owned::is_unit(unit), "{unit}");
            }
            for path in desired.files.keys() {
                assert!(owned::is_file(path), "{path}");
            }
            for template in desired.instances.keys() {
                assert!(owned::TEMPLATES.contains(template), "{template}");
            }
        }
    }
}

/// Nobody but the owner reads a secret, and outside of /run none is kept but in FRR's own folder.
#[test]
fn secrets_are_kept() {
    for (name, text, nodes) in SAMPLES {
        let config = config::load(text).unwrap();
        for id in nodes {
            for (path, file) in node_services(&config, *id).files {
                let holds =
                    ["secret-of-", "PRIVATE KEY"].iter().any(|it| file.content.contains(it));
                assert!(!holds || file.mode.trailing_zeros() >= 3, "{name} {path} {:o}", file.mode);
                let hidden = path.starts_with("/run/trilith/") || path == super::frr::CONFIG;
                assert!(!holds || hidden, "{name} {path}");
            }
        }
    }
}
