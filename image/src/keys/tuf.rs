//! The roots of the signed metadata (The Update Framework, specification 1.0): each says which keys may sign what, and is
//! signed by the keys of the one before it, so that whoever trusts one finds the way to the newest.

use std::collections::HashMap;
use std::error::Error;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use jiff::{SignedDuration, Timestamp};
use tough::async_trait;
use tough::editor::signed::SignedRole;
use tough::key_source::KeySource;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key;
use tough::schema::{KeyHolder, Role, RoleKeys, RoleType, Root, Signed};
use tough::sign::Sign;
use trilith_core::secrets::Secret;
use zeroize::Zeroizing;

use super::store::{Offline, Online};
use super::write_public;

/// The version of the specification.
pub(crate) const SPECIFICATION: &str = "1.0.0";

/// A key as tough asks for it.
#[derive(Debug)]
pub(crate) struct Signer(pub(crate) Secret);

#[async_trait]
impl KeySource for Signer {
    async fn as_sign(&self) -> Result<Box<dyn Sign>, Box<dyn Error + Send + Sync>> {
        Ok(Box::new(pair(&self.0)?))
    }

    async fn write(&self, _: &str, _: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err("keys are written by nobody but `trilith keys`".into())
    }
}

/// All of them, for one signature or several.
pub(crate) fn signers<'a>(keys: impl IntoIterator<Item = &'a Secret>) -> Vec<Box<dyn KeySource>> {
    keys.into_iter().map(|key| Box::new(Signer(key.clone())) as Box<dyn KeySource>).collect()
}

fn pair(key: &Secret) -> anyhow::Result<Ed25519KeyPair> {
    let (_, der) = pem_rfc7468::decode_vec(key.reveal().as_bytes())
        .map_err(|_| anyhow!("a key of the metadata is not PEM"))?;
    let der = Zeroizing::new(der);
    Ed25519KeyPair::from_pkcs8(&der).map_err(|_| anyhow!("a key of the metadata is no ed25519 key"))
}

/// The public half, and what it is known by.
pub(crate) fn public(key: &Secret) -> anyhow::Result<(Decoded<Hex>, Key)> {
    let key = pair(key)?.tuf_key();
    Ok((key.key_id().context("a key of the metadata has no ID")?, key))
}

/// How long from now.
pub(crate) fn days_from_now(days: u32) -> anyhow::Result<Timestamp> {
    let days = SignedDuration::from_hours(24 * i64::from(days));
    Timestamp::now().checked_add(days).context("that is too many days")
}

/// Makes and signs the next root. `before`: the key of the root before it.
pub(crate) async fn next_root(
    (online, offline): (&Online, &Offline),
    before: Option<&Secret>,
    version: NonZeroU64,
    days: u32,
) -> anyhow::Result<Vec<u8>> {
    let mut root = Root {
        spec_version: SPECIFICATION.to_owned(),
        consistent_snapshot: true,
        version,
        expires: days_from_now(days)?,
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    let roles = [
        (RoleType::Root, &offline.root),
        (RoleType::Targets, &online.targets),
        (RoleType::Snapshot, &online.snapshot),
        (RoleType::Timestamp, &online.timestamp),
    ];
    for (role, key) in roles {
        let (id, key) = public(key)?;
        root.keys.insert(id.clone(), key);
        let keys =
            RoleKeys { keyids: vec![id], threshold: NonZeroU64::MIN, _extra: HashMap::new() };
        root.roles.insert(role, keys);
    }
    let random = SystemRandom::new();
    let own = KeyHolder::Root(root.clone());
    let mut signed =
        SignedRole::new(root.clone(), &own, &signers([&offline.root]), &random).await?;
    if let Some(before) = before.filter(|before| **before != offline.root) {
        // The specification (6.1) asks for both: those who are trusted so far, and those who will be.
        let mut old = root;
        let (id, key) = public(before)?;
        old.keys.insert(id.clone(), key);
        let keys =
            RoleKeys { keyids: vec![id], threshold: NonZeroU64::MIN, _extra: HashMap::new() };
        old.roles.insert(RoleType::Root, keys);
        let (old, signers) = (KeyHolder::Root(old), signers([before]));
        let role = signed.signed().signed.clone();
        let other = SignedRole::new(role, &old, &signers, &random).await?;
        signed = signed.add_old_signatures(other.signed().signatures.clone())?;
    }
    Ok(signed.buffer().clone())
}

/// The roots in a folder of keys, from the first to the newest.
pub(crate) struct Roots {
    folder: PathBuf,
    /// As they are written, the first first.
    pub(crate) files: Vec<Vec<u8>>,
    /// The newest.
    pub(crate) newest: Root,
}

impl Roots {
    /// Reads them.
    pub(crate) fn read(keys: &Path) -> anyhow::Result<Self> {
        let folder = folder(keys);
        let mut files = Vec::new();
        while let Ok(file) = std::fs::read(folder.join(format!("{}.root.json", files.len() + 1))) {
            files.push(file);
        }
        let missing = || format!("{} has no roots; `trilith keys init` makes one", keys.display());
        let newest = files.last().with_context(missing)?;
        let newest: Signed<Root> = serde_json::from_slice(newest)
            .with_context(|| format!("the newest root in {} is none", folder.display()))?;
        let newest = newest.signed;
        ensure!(
            newest.version().get() == files.len() as u64,
            "the roots in {} are not numbered as they say",
            folder.display()
        );
        Ok(Self { folder, files, newest })
    }

    /// The version of the next one.
    pub(crate) fn next(&self) -> NonZeroU64 {
        self.newest.version.saturating_add(1)
    }

    /// Adds one.
    pub(crate) fn add(&self, root: &[u8]) -> anyhow::Result<()> {
        write_public(&self.folder.join(format!("{}.root.json", self.next())), root)
    }

    /// Whether a key has this role.
    pub(crate) fn gives(&self, role: RoleType, key: &Secret) -> anyhow::Result<bool> {
        let (id, _) = public(key)?;
        Ok(self.newest.roles.get(&role).is_some_and(|keys| keys.keyids.contains(&id)))
    }
}

/// Where the roots lie in a folder of keys.
pub(crate) fn folder(keys: &Path) -> PathBuf {
    keys.join("roots")
}
