//! The signed metadata of a source (The Update Framework): what its targets are. What was seen is remembered in /var, so that
//! nobody shows an older list than one that was seen before.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use ring::digest::{SHA256, digest};
use tough::schema::{Root, Signed};
use tough::{
    ExpirationEnforcement, RepositoryLoader, Transport, TransportError, TransportErrorKind,
    TransportStream, async_trait,
};
use trilith_core::names::Sha256;
use trilith_core::release::Manifest;
use trilith_core::version::Version;
use url::Url;

use crate::memory::{self, settle};
use crate::source::{Bad, NotThere, Source};

/// How tough is told where it all is. Nobody else sees it.
const BASE: &str = "trilith://source/";
/// What tough calls the newest root that it has come to.
const ROOT: &str = "root.json";
/// What tough remembers of time. It is no use: a clock that was wrong once would be believed for ever.
const TIME: &str = "latest_known_time.json";
/// The longest manifest, and the longest of tough's files.
const LONGEST: u64 = 10 << 20;

/// A file that the metadata lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where it is.
    pub(crate) path: String,
    /// What it is.
    pub(crate) sha256: Sha256,
    /// Its size, in bytes.
    pub(crate) size: u64,
}

/// All targets of a source, by their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Releases(HashMap<String, Target>);

/// Whom to trust, and what was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust<'a> {
    /// The SHA-256 of the first root.
    pub(crate) root: &'a Sha256,
    /// Where it is remembered.
    pub(crate) memory: &'a Path,
    /// Whether the clock is right: what has expired is refused.
    pub(crate) clock: bool,
}

impl Releases {
    /// Reads the metadata, as far as they are signed by whom the first root leads to, and are not older than what was seen.
    pub(crate) async fn look(source: &Source, trust: Trust<'_>) -> Result<Self> {
        let first = first_root(source, trust).await?;
        let (seen, new) = (trust.memory.join("metadata"), trust.memory.join("metadata.new"));
        copy(&seen, &new)?;
        let root = newest_root(&seen).unwrap_or(first);
        let url = |folder: &str| Url::parse(&format!("{BASE}{folder}/"));
        let loader = RepositoryLoader::new(&root, url("metadata")?, url("targets")?);
        let expiry = ExpirationEnforcement::from(trust.clock);
        let loader = loader.transport(Asked(source.clone())).datastore(&new);
        let repository = loader.expiration_enforcement(expiry).load().await;
        // A newer root counts from when it was seen, whatever is wrong with the rest (TUF 5.3.8).
        keep_root(&new, &seen)?;
        let repository = repository.map_err(|error| told(&error))?;
        keep(&new, &seen)?;
        let mut targets = HashMap::new();
        for (name, target) in repository.all_targets() {
            let sha256 = Sha256::try_from(hex(&target.hashes.sha256))?;
            let path = format!("targets/{sha256}.{}", name.resolved());
            let size = target.length;
            targets.insert(name.resolved().to_owned(), Target { path, sha256, size });
        }
        Ok(Self(targets))
    }

    #[cfg(test)]
    pub(crate) fn add(&mut self, name: &str, target: Target) {
        self.0.insert(name.to_owned(), target);
    }

    /// A target by its name, of the size that the manifest says.
    pub(crate) fn target(&self, name: &str, size: u64) -> Result<&Target> {
        let target = self.0.get(name);
        let target = target.ok_or_else(|| Bad(format!("the metadata name no {name}")))?;
        if target.size != size {
            return Err(
                Bad(format!("{name} has {} bytes and should have {size}", target.size)).into()
            );
        }
        Ok(target)
    }

    /// What a release says of itself; `None`: the source does not have it.
    pub(crate) async fn manifest(
        &self,
        source: &Source,
        version: &Version,
    ) -> Result<Option<Manifest>> {
        let Some(target) = self.0.get(&Manifest::target(version)) else { return Ok(None) };
        ensure!(target.size <= LONGEST, "the manifest of {version} is too long");
        let text = source.range(&target.path, 0, target.size).await?;
        if hex(digest(&SHA256, &text).as_ref()) != target.sha256.as_str() {
            return Err(
                Bad(format!("the manifest of {version} is not the one that was signed")).into()
            );
        }
        let manifest = Manifest::parse(std::str::from_utf8(&text)?);
        let manifest =
            manifest.with_context(|| format!("cannot read the manifest of {version}"))?;
        ensure!(
            manifest.version == *version,
            "the manifest of {version} is that of another release"
        );
        Ok(Some(manifest))
    }
}

/// The first root: the one that was seen, or what the source has.
async fn first_root(source: &Source, Trust { root, memory, .. }: Trust<'_>) -> Result<Vec<u8>> {
    let path = memory.join("1.root.json");
    let is_it = |text: &[u8]| hex(digest(&SHA256, text).as_ref()) == root.as_str();
    if let Ok(text) = fs::read(&path)
        && is_it(&text)
    {
        return Ok(text);
    }
    let text = source.short("metadata/1.root.json", LONGEST).await?;
    if !is_it(&text) {
        bail!(
            "the first root of the source has the SHA-256 {}, and {root} is trusted: its releases are signed by somebody \
             else",
            hex(digest(&SHA256, &text).as_ref())
        );
    }
    // What was seen of others is of no meaning any more.
    let _none = fs::remove_dir_all(memory.join("metadata"));
    memory::write(&path, &text)?;
    Ok(text)
}

/// The newest root that the first one has led to: whoever holds an older key could else withhold all that came after it.
fn newest_root(folder: &Path) -> Option<Vec<u8>> {
    let text = fs::read(folder.join(ROOT)).ok()?;
    serde_json::from_slice::<Signed<Root>>(&text).is_ok().then_some(text)
}

/// Everything that is remembered, for tough to change: it writes in place, and a power cut would leave half of it.
fn copy(seen: &Path, new: &Path) -> Result<()> {
    let _left = fs::remove_dir_all(new);
    for folder in [seen, new] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    for path in files(seen)? {
        let name = path.file_name().context("a file without a name")?;
        fs::copy(&path, new.join(name))
            .with_context(|| format!("cannot copy {}", path.display()))?;
    }
    Ok(())
}

/// The root that tough has come to takes its place. (It verifies each root by the one before, and writes it then.)
fn keep_root(new: &Path, seen: &Path) -> Result<()> {
    if newest_root(new).is_some() {
        give_place(&new.join(ROOT), seen)?;
        settle(seen)?;
    }
    Ok(())
}

/// What tough has made of the rest takes its place, the timestamp last: it leads to the others.
fn keep(new: &Path, seen: &Path) -> Result<()> {
    let mut all = files(new)?;
    all.retain(|path| !path.ends_with(TIME));
    all.sort_by_key(|path| path.ends_with("timestamp.json"));
    for path in all {
        give_place(&path, seen)?;
    }
    settle(seen)?;
    fs::remove_dir_all(new).with_context(|| format!("cannot remove {}", new.display()))
}

fn give_place(path: &Path, folder: &Path) -> Result<()> {
    let name = path.file_name().context("a file without a name")?;
    let kept = File::open(path).and_then(|file| file.sync_all());
    let kept = kept.and_then(|()| fs::rename(path, folder.join(name)));
    kept.with_context(|| format!("cannot keep {}", path.display()))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("cannot read {}", folder.display());
    let entries = fs::read_dir(folder).with_context(failed)?;
    entries.map(|entry| Ok(entry.with_context(failed)?.path())).collect()
}

/// The source, as tough asks for it.
#[derive(Debug, Clone)]
struct Asked(Source);

#[async_trait]
impl Transport for Asked {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let path = url.path().trim_start_matches('/').to_owned();
        match self.0.short(&path, LONGEST).await {
            Ok(bytes) => Ok(Box::pin(futures_util::stream::iter([Ok(bytes.into())]))),
            Err(error) if error.is::<NotThere>() => {
                Err(TransportError::new(TransportErrorKind::FileNotFound, path))
            }
            Err(error) => Err(TransportError::new_with_cause(
                TransportErrorKind::Other,
                path,
                format!("{error:#}"),
            )),
        }
    }
}

/// An error of tough's with its causes.
fn told(error: &dyn std::error::Error) -> anyhow::Error {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut words: Vec<String> = causes.map(ToString::to_string).collect();
    words.dedup();
    anyhow::anyhow!("the metadata of the source are refused: {}", words.join(": "))
}

/// In hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
