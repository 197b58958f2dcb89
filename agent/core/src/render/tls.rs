//! A service's own copy of the node's certificate. Each service runs as its own user and may read no other's files,
//! hence the copies.

use crate::secrets::Identity;
use crate::services::{Desired, File, Owner};

/// What a service calls the parts of the node's identity, in its own folder of secrets.
pub(super) struct Names<'a> {
    /// The certificates of the cluster's authority.
    pub(super) authority: Option<&'a str>,
    /// The node's certificate.
    pub(super) certificates: &'a [&'a str],
    /// Its key.
    pub(super) keys: &'a [&'a str],
}

/// The files, authority and certificate and key each by itself.
pub(super) fn apart(
    identity: &Identity,
    folder: &str,
    owner: &Owner,
    names: &Names<'_>,
) -> Desired {
    let mut desired = Desired::default();
    let mut add = |name: &str, pem: &str| {
        let file = File::secret(ended(pem), owner.clone());
        desired.files.insert(format!("{folder}/{name}"), file);
    };
    if let Some(name) = names.authority {
        add(name, &identity.authority);
    }
    for name in names.certificates {
        add(name, &identity.certificate);
    }
    for name in names.keys {
        add(name, identity.key.reveal());
    }
    desired
}

/// Key and certificate in one text, in the order in which ZooKeeper reads it.
pub(super) fn key_and_certificate(identity: &Identity) -> String {
    ended(identity.key.reveal()) + &ended(&identity.certificate)
}

/// A PEM text that ends with a line break, so that another may follow.
fn ended(pem: &str) -> String {
    let mut text = pem.trim_end().to_owned();
    text.push('\n');
    text
}
