//! How operators reach a node's agent: over the upstream network, as SSH, by mutual TLS, for reading and, by a
//! certificate that says so, for upgrades.
//!
//! Anybody may come; the door is the certificate. One of the cluster's authority whose subject says that it is an
//! operator's opens this door and no other, and a node's opens the peers' and not this one.

use std::net::IpAddr;

use crate::config::{NetworkName, Node};
use crate::secrets::certificate::Certificate;

/// The TCP port of the agent on the upstream network.
pub const PORT: u16 = 29811;

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Look.
    Look,
    /// Look, and say which release the cluster is to run.
    Upgrade,
}

/// Whose certificate it is, and what that person may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The common name: `operator`, `operator:NAME`, `admin:NAME`.
    pub name: String,
    /// What the person may do.
    pub right: Right,
}

impl Right {
    /// The subject of an operator's certificate, which a colon and a person's name may follow. No node has it: a node's
    /// name in a certificate ends with the cluster's domain, and it serves for the server's end as well.
    fn subject(self) -> &'static str {
        match self {
            Self::Look => "operator",
            Self::Upgrade => "admin",
        }
    }
}

/// The longest name of a person in a certificate: a common name has at most 64 characters (RFC 5280, ub-common-name).
const LONGEST: usize = 40;

/// The common name of an operator's certificate; `None` if the person's name is no word of letters, digits, `.`, `_`
/// and `-`.
pub fn subject(right: Right, person: Option<&str>) -> Option<String> {
    let Some(person) = person else { return Some(right.subject().to_owned()) };
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let word = (1..=LONGEST).contains(&person.len()) && person.chars().all(fits);
    word.then(|| format!("{}:{person}", right.subject()))
}

/// Whose certificate it is, if it is an operator's: `operator`, `operator:NAME` or the same with `admin`. That the
/// cluster's authority signed it is not judged here.
pub fn who(certificate: &Certificate) -> Option<Operator> {
    let Certificate { names, authority, server, client, .. } = certificate;
    let alone = names.dns.is_empty() && names.addresses.is_empty();
    let (first, person) = match names.common.split_once(':') {
        Some((first, person)) => (first, Some(person)),
        None => (names.common.as_str(), None),
    };
    let right = [Right::Look, Right::Upgrade].into_iter().find(|it| it.subject() == first)?;
    let named = subject(right, person).is_some();
    let name = names.common.clone();
    (named && alone && *client && !*server && !*authority).then_some(Operator { name, right })
}

/// Where a node listens for operators.
pub fn addresses(node: &Node) -> Vec<IpAddr> {
    let upstream = node.network(NetworkName::Upstream);
    let addresses = upstream.into_iter().flat_map(|network| &network.addresses);
    addresses.map(|address| address.address.addr()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::secrets::needs::CertificateNames;
    use crate::secrets::sample::Authority;

    fn certificate(common: &str, dns: &[&str]) -> Certificate {
        let dns: BTreeSet<String> = dns.iter().map(|name| (*name).to_owned()).collect();
        let names = CertificateNames { common: common.into(), dns, ..CertificateNames::default() };
        let mut made = Certificate::read(&Authority::new("lab").issue(&names).certificate).unwrap();
        made.server = false;
        made
    }

    #[test]
    fn an_operator_is_told_from_everybody_else() {
        for (common, right) in [
            ("operator", Right::Look),
            ("operator:alice", Right::Look),
            ("operator:a.b_c-1", Right::Look),
            ("admin", Right::Upgrade),
            ("admin:alice", Right::Upgrade),
        ] {
            let name = common.to_owned();
            assert_eq!(who(&certificate(common, &[])), Some(Operator { name, right }));
        }
        for common in [
            "operator.lab",
            "operators",
            "operator:",
            "operator:a b",
            "Operator",
            "admin:",
            "n1",
            "",
        ] {
            assert_eq!(who(&certificate(common, &[])), None, "{common}");
        }
        assert_eq!(who(&certificate("operator", &["n1.lab"])), None, "a node's names");
        let mut both = certificate("operator", &[]);
        both.server = true;
        assert_eq!(who(&both), None, "a certificate for both ends");
    }
}
