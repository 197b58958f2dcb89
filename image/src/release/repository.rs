//! The signed metadata of a folder of releases (The Update Framework, specification 1.0, with consistent snapshots).

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::rand::SystemRandom;
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tough::TargetName;
use tough::editor::signed::SignedRole;
use tough::schema::{
    Hashes, KeyHolder, Metafile, Role, RoleType, Root, Signed, Snapshot, Target, Targets, Timestamp,
};
use trilith_core::release::Manifest;
use trilith_core::version::Version;

use super::files;
use crate::build::hex;
use crate::keys::store::Online;
use crate::keys::tuf::{Roots, SPECIFICATION, days_from_now, signers};

/// In the description of a release's manifest: what was built ([`super::source::Source::fingerprint`]).
const FINGERPRINT: &str = "build";

/// For how long signatures hold.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Lifetimes {
    /// For how many days nodes take the list of releases. It is signed anew
    /// with each release, and when half of this is over.
    #[arg(long = "targets-days", value_name = "DAYS", default_value_t = 365)]
    targets: u32,
    /// The same for its version.
    #[arg(long = "snapshot-days", value_name = "DAYS", default_value_t = 90)]
    snapshot: u32,
    /// For how many days nodes take it for the newest: sign it anew before, by
    /// `trilith release refresh`.
    #[arg(long = "timestamp-days", value_name = "DAYS", default_value_t = 30)]
    timestamp: u32,
}

/// A folder of releases that nobody else writes meanwhile.
pub(crate) struct Repository {
    folder: PathBuf,
    roots: Roots,
    /// What is published: nothing yet, or all three.
    now: Option<Published>,
    /// Held: two at once would write the same versions.
    _lock: File,
}

struct Published {
    targets: Signed<Targets>,
    snapshot: u64,
    timestamp: Timestamp,
}

impl Repository {
    /// Opens it, or makes it. What is published must be signed by keys that these roots name or have named.
    pub(crate) fn open(folder: PathBuf, roots: Roots) -> Result<Self> {
        files::make_folder(&folder)?;
        let lock =
            File::open(&folder).with_context(|| format!("cannot open {}", folder.display()))?;
        if lock.try_lock().is_err() {
            bail!("another `trilith release` works in {}", folder.display());
        }
        let mut repository = Self { folder, roots, now: None, _lock: lock };
        if repository.metadata("timestamp.json").exists() {
            let reading = || {
                format!("{} is no folder of releases of these keys", repository.folder.display())
            };
            repository.now = Some(repository.load().with_context(reading)?);
        }
        Ok(repository)
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.folder.join("metadata").join(name)
    }

    /// Where targets lie.
    pub(super) fn targets(&self) -> PathBuf {
        self.folder.join("targets")
    }

    /// Where a release is made. It is on the same file system.
    pub(super) fn work(&self) -> PathBuf {
        self.folder.join(".work")
    }

    /// Reads what is published, also what has expired or was signed by keys that have been replaced since: signing anew is
    /// what is done about that.
    fn load(&self) -> Result<Published> {
        let roots = self.roots.files.iter();
        let roots: Result<Vec<Signed<Root>>, _> =
            roots.map(|it| serde_json::from_slice(it)).collect();
        let roots = roots.context("a root is none")?;
        let timestamp: Signed<Timestamp> = self.read("timestamp.json", None, &roots)?;
        let timestamp = timestamp.signed;
        let told = timestamp.meta.get("snapshot.json").context("it tells of no snapshot")?;
        let snapshot: Signed<Snapshot> =
            self.read(&format!("{}.snapshot.json", told.version), told.hashes.as_ref(), &roots)?;
        let told = snapshot.signed.meta.get("targets.json").context("it tells of no targets")?;
        let targets =
            self.read(&format!("{}.targets.json", told.version), told.hashes.as_ref(), &roots)?;
        Ok(Published { targets, snapshot: snapshot.signed.version.get(), timestamp })
    }

    fn read<T: Role + Serialize + DeserializeOwned>(
        &self,
        name: &str,
        hashes: Option<&Hashes>,
        roots: &[Signed<Root>],
    ) -> Result<Signed<T>> {
        let path = self.metadata(name);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let known = hashes.is_none_or(|hashes| Sha256::digest(&text)[..] == hashes.sha256[..]);
        ensure!(known, "{name} is not the one that was signed");
        let role: Signed<T> =
            serde_json::from_slice(&text).with_context(|| format!("{name} is no metadata"))?;
        let ours = roots.iter().any(|root| root.signed.verify_role(&role).is_ok());
        ensure!(ours, "{name} is signed by none of these keys");
        Ok(role)
    }

    /// The releases, from the oldest version to the newest.
    pub(super) fn releases(&self) -> Vec<Version> {
        let names = self.now.iter().flat_map(|now| now.targets.signed.targets.keys());
        let versions =
            names.filter_map(|name| Version::of_label(name.raw().strip_suffix(".yaml")?));
        let mut versions: Vec<Version> = versions.collect();
        versions.sort();
        versions
    }

    /// The names of all files that are targets.
    pub(super) fn named(&self) -> HashSet<String> {
        let targets = self.now.iter().flat_map(|now| &now.targets.signed.targets);
        targets.map(|(name, it)| format!("{}.{}", hex(&it.hashes.sha256), name.raw())).collect()
    }

    /// What was built for a release that is there.
    pub(super) fn fingerprint(&self, version: &Version) -> Option<&str> {
        self.target(&Manifest::target(version))?.custom.get(FINGERPRINT)?.as_str()
    }

    /// The manifest of a release that is there.
    pub(super) fn manifest(&self, version: &Version) -> Result<Manifest> {
        let path = self.file(&Manifest::target(version))?;
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Manifest::parse(&text).with_context(|| format!("{} is no manifest", path.display()))
    }

    /// A target's file. It is what the metadata says.
    pub(super) fn file(&self, name: &str) -> Result<PathBuf> {
        let target = self.target(name).with_context(|| format!("there is no target {name}"))?;
        let path = self.targets().join(format!("{}.{name}", hex(&target.hashes.sha256)));
        let (sha256, _) = files::digest(&path)?;
        ensure!(
            sha256 == target.hashes.sha256.as_ref(),
            "{} is not what was signed",
            path.display()
        );
        Ok(path)
    }

    fn target(&self, name: &str) -> Option<&Target> {
        self.now.as_ref()?.targets.signed.targets.get(&TargetName::new(name).ok()?)
    }

    /// Adds a release: its manifest's target is among its own.
    pub(super) async fn add(
        &mut self,
        version: &Version,
        fingerprint: String,
        mut own: HashMap<TargetName, Target>,
        (online, lifetimes): (&Online, &Lifetimes),
    ) -> Result<()> {
        if let Some(manifest) = own.get_mut(&TargetName::new(Manifest::target(version))?) {
            manifest.custom.insert(FINGERPRINT.to_owned(), fingerprint.into());
        }
        let mut targets = self.next_targets(lifetimes)?;
        targets.targets.extend(own);
        self.publish(Some(targets), online, lifetimes).await
    }

    /// Signs anew what is published. The list of releases only where its signature no longer counts or is half over.
    pub(super) async fn refresh(&mut self, online: &Online, lifetimes: &Lifetimes) -> Result<()> {
        let now = self.now.as_ref();
        let now = now.with_context(|| format!("{} has no releases", self.folder.display()))?;
        let half = days_from_now(lifetimes.targets / 2)?;
        let counts = self.roots.newest.verify_role(&now.targets).is_ok();
        let targets = if counts && now.targets.signed.expires > half {
            None
        } else {
            Some(self.next_targets(lifetimes)?)
        };
        self.publish(targets, online, lifetimes).await
    }

    /// What people read of it.
    pub(super) fn until(&self) -> String {
        let folder = self.folder.display();
        match &self.now {
            Some(now) => format!("{folder}: signed until {}", now.timestamp.expires),
            None => format!("{folder}: nothing is published"),
        }
    }

    fn next_targets(&self, lifetimes: &Lifetimes) -> Result<Targets> {
        let expires = days_from_now(lifetimes.targets)?;
        let before = self.now.as_ref().map(|now| &now.targets.signed);
        let version = before.map_or(0, |before| before.version.get());
        let mut targets = Targets::new(SPECIFICATION.to_owned(), next(version), expires);
        // None are delegated, and an empty list would be one.
        targets.delegations = None;
        targets.targets = before.map(|before| before.targets.clone()).unwrap_or_default();
        Ok(targets)
    }

    /// Writes a new list of targets if there is one, then what leads to it: timestamp.json is the last of all.
    async fn publish(
        &mut self,
        targets: Option<Targets>,
        online: &Online,
        lifetimes: &Lifetimes,
    ) -> Result<()> {
        let metadata = self.folder.join("metadata");
        files::make_folder(&metadata)?;
        let root = &self.roots.newest;
        let targets = match (targets, &self.now) {
            (Some(targets), _) => sign(targets, root, online).await?.signed().clone(),
            (None, Some(now)) => now.targets.clone(),
            (None, None) => bail!("{} has no releases", self.folder.display()),
        };
        let text = text(&targets)?;
        put(&metadata.join(format!("{}.targets.json", targets.signed.version)), &text)?;

        let version = next(self.now.as_ref().map_or(0, |now| now.snapshot));
        let expires = days_from_now(lifetimes.snapshot)?;
        let mut snapshot = Snapshot::new(SPECIFICATION.to_owned(), version, expires);
        let described = describe(&text, targets.signed.version);
        snapshot.meta.insert("targets.json".to_owned(), described);
        let snapshot = sign(snapshot, root, online).await?;
        put(&metadata.join(format!("{version}.snapshot.json")), snapshot.buffer())?;

        let before = self.now.as_ref().map_or(0, |now| now.timestamp.version.get());
        let expires = days_from_now(lifetimes.timestamp)?;
        let mut timestamp = Timestamp::new(SPECIFICATION.to_owned(), next(before), expires);
        let described = describe(snapshot.buffer(), version);
        timestamp.meta.insert("snapshot.json".to_owned(), described);
        let timestamp = sign(timestamp, root, online).await?;
        // Between these two nobody can read, if a key was replaced; so they come together and at the end.
        for (number, root) in (1..).zip(&self.roots.files) {
            put(&metadata.join(format!("{number}.root.json")), root)?;
        }
        put(&metadata.join("timestamp.json"), timestamp.buffer())?;
        let timestamp = timestamp.signed().signed.clone();
        self.now = Some(Published { targets, snapshot: version.get(), timestamp });
        Ok(())
    }
}

fn next(version: u64) -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(version)
}

fn put(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    files::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Signed metadata as it is written, which tough's own does not say of what was read.
fn text<T: Serialize>(signed: &Signed<T>) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(signed).context("cannot write metadata")?;
    text.push(b'\n');
    Ok(text)
}

fn describe(text: &[u8], version: NonZeroU64) -> Metafile {
    let sha256 = Sha256::digest(text).to_vec().into();
    let hashes = Some(Hashes { sha256, _extra: HashMap::new() });
    Metafile { hashes, length: Some(text.len() as u64), version, _extra: HashMap::new() }
}

/// Signs a role with the key that the newest root gives it.
async fn sign<T: Role + Serialize>(role: T, root: &Root, online: &Online) -> Result<SignedRole<T>> {
    let key = match T::TYPE {
        RoleType::Targets => &online.targets,
        RoleType::Snapshot => &online.snapshot,
        RoleType::Timestamp => &online.timestamp,
        RoleType::Root | RoleType::DelegatedTargets => bail!("no online key signs this"),
    };
    let (holder, signers) = (KeyHolder::Root(root.clone()), signers([key]));
    let signed = SignedRole::new(role, &holder, &signers, &SystemRandom::new()).await;
    signed.with_context(|| format!("the newest root does not name the {} key", T::TYPE))
}

#[cfg(test)]
mod tests;
