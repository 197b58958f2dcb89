//! Texts without the node's secrets: whatever leaves a node for a person goes through here, so that one that lies where
//! it should not is not carried further.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use super::{Ceph, Identity, NodeSecrets, Postgres, Secret, ZooKeeper};

/// What stands where a secret stood.
pub const MARK: &str = "[secret]";

/// Of a secret of several lines, such as a key in PEM, lines shorter than this are no news.
const SHORTEST_LINE: usize = 8;

/// Knows the secrets of a node, and takes them out of texts. Without any it changes nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Redactor {
    patterns: Vec<Secret>,
}

impl Redactor {
    /// For everything secret that a node has.
    pub fn new(secrets: &NodeSecrets) -> Self {
        let NodeSecrets { identity, ceph, zookeeper, postgres, bgp, ssh_host_key, named } = secrets;
        let Identity { authority: _, certificate: _, key } = identity;
        let Ceph { fsid: _, keys, libvirt_uuid: _ } = ceph;
        let ZooKeeper { agent, patroni } = zookeeper;
        let accounts = postgres.iter().flat_map(|accounts| {
            let Postgres { superuser, replication, rewind } = accounts;
            [superuser, replication, rewind]
        });
        let all = [key, agent, bgp, ssh_host_key].into_iter();
        let all = all.chain(patroni).chain(keys.values()).chain(named.values()).chain(accounts);
        let mut patterns: BTreeSet<String> = BTreeSet::new();
        for secret in all {
            patterns.extend(parts(secret.reveal()));
        }
        // The longest first: one may be a part of another.
        let mut patterns: Vec<Secret> = patterns.into_iter().map(Secret::from).collect();
        patterns.sort_by_key(|secret| std::cmp::Reverse(secret.reveal().len()));
        Self { patterns }
    }

    /// The text with a mark for each secret in it.
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for pattern in &self.patterns {
            if text.contains(pattern.reveal()) {
                text = Cow::Owned(text.replace(pattern.reveal(), MARK));
            }
        }
        text
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} patterns)", self.patterns.len())
    }
}

/// How a secret may stand in a text: as it is, and as JSON writes it; one of several lines, line by line.
fn parts(secret: &str) -> Vec<String> {
    let secret = secret.trim();
    let several = secret.contains('\n');
    let lines = secret.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !(several && (line.starts_with("-----") || line.len() < SHORTEST_LINE))
    });
    let both = |line: &str| {
        let json = serde_json::to_string(line).unwrap_or_default();
        [line.to_owned(), json.trim_matches('"').to_owned()]
    };
    lines.flat_map(both).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::sample;

    fn secrets() -> NodeSecrets {
        let text = include_str!("../../../../tests/clusters/valid/homelab.yaml");
        let config = crate::config::load(text).unwrap();
        let mut secrets = sample::secrets(&config, 1.try_into().unwrap());
        secrets.bgp = Secret::from("quo\"te\\d".to_owned());
        secrets
    }

    #[test]
    fn every_secret_is_taken_out_and_nothing_else() {
        let secrets = secrets();
        let redactor = Redactor::new(&secrets);
        let yaml = serde_yaml::to_string(&secrets).unwrap();
        let clean = redactor.clean(&yaml);
        for kept in [&secrets.ceph.fsid, "BEGIN PRIVATE KEY", "BEGIN CERTIFICATE"] {
            assert!(clean.contains(kept), "{kept}");
        }
        for secret in [&secrets.zookeeper.agent, &secrets.ceph.keys["client.admin"]] {
            assert!(!clean.contains(secret.reveal()));
        }
        for key in [&secrets.identity.key, &secrets.ssh_host_key] {
            let body = key.reveal().lines().filter(|line| !line.starts_with("-----"));
            body.for_each(|line| assert!(!clean.contains(line), "{line}"));
        }
        assert_eq!(
            redactor.clean("neighbor x password quo\"te\\d"),
            "neighbor x password [secret]"
        );
        assert_eq!(redactor.clean(r#"{"m":"quo\"te\\d"}"#), r#"{"m":"[secret]"}"#);
        assert_eq!(redactor.clean("nothing in it"), "nothing in it");
        assert_eq!(Redactor::default().clean("quo"), "quo");
    }
}
