//! What the two files of keys hold.

use serde::{Deserialize, Serialize};
use trilith_core::secrets::Secret;

use crate::cluster::KeyPair;
use crate::vault::Kept;

/// The keys that sign each release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Online {
    pub(crate) version: u32,
    /// See [`Kept::recipients`].
    pub(crate) recipients: Vec<String>,
    /// Secure Boot's db, the newest last. All of them sign, so that firmware that knows an older one starts what is new.
    pub(crate) db: Vec<KeyPair>,
    /// Signs root hashes.
    pub(crate) verity: KeyPair,
    /// TUF's roles: ed25519, PKCS #8 in PEM.
    pub(crate) targets: Secret,
    pub(crate) snapshot: Secret,
    pub(crate) timestamp: Secret,
}

/// The keys that say which keys may sign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Offline {
    pub(crate) version: u32,
    /// See [`Kept::recipients`].
    pub(crate) recipients: Vec<String>,
    /// TUF's root.
    pub(crate) root: Secret,
    /// The one before it, which signs the root that replaces it: without it a cut in between would be the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root_before: Option<Secret>,
    /// Secure Boot's platform key.
    pub(crate) pk: KeyPair,
    /// Secure Boot's key exchange key.
    pub(crate) kek: KeyPair,
    /// What firmware is told who the owner of our certificates is: a UUID.
    pub(crate) owner: String,
}

/// The one version of both formats.
pub(crate) const VERSION: u32 = 1;

impl Kept for Online {
    const WHAT: &'static str = "file of online keys";
    const MADE_BY: &'static str = "trilith keys init";
    const VERSION: u32 = VERSION;

    fn recipients(&self) -> &[String] {
        &self.recipients
    }
}

impl Kept for Offline {
    const WHAT: &'static str = "file of offline keys";
    const MADE_BY: &'static str = "trilith keys init";
    const VERSION: u32 = VERSION;

    fn recipients(&self) -> &[String] {
        &self.recipients
    }
}
