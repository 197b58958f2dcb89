//! How far a fetch has come, in /var: what was written into a slot, and whether it is still there, is seen on the slot; what
//! to look for there, and what may follow, stands here. Nothing that is read here is believed before it was looked at.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use trilith_core::boot::RootHash;
use trilith_core::names::Sha256;

/// Where the updater keeps what it must remember.
pub(crate) const FOLDER: &str = "/var/lib/trilith-update";
/// In it: how far a fetch has come.
const FILE: &str = "fetch.yaml";

/// A fetch that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    /// The release, by its root.
    pub(crate) root_hash: RootHash,
    /// Its parts, by their names.
    #[serde(default)]
    pub(crate) parts: BTreeMap<String, Begun>,
}

/// How far a part has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Begun {
    /// By this delta: what each piece has made.
    Delta {
        /// The target.
        target: String,
        /// The SHA-256 of each stretch.
        made: Vec<Sha256>,
    },
    /// By this archive of chunks.
    Chunks {
        /// The target.
        target: String,
    },
    /// By all of it: how much of the compressed bytes lies behind the part's place.
    Whole {
        /// The target.
        target: String,
        /// How many bytes.
        come: u64,
    },
    /// Block by block: which ones are there is seen there.
    Blocks,
    /// It is there, whole.
    Done,
}

impl Memory {
    /// What was begun, if anything was.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            // What cannot be read any more is begun anew.
            Ok(text) => Ok(serde_yaml::from_str(&text).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// What was begun of this release; of another one nothing counts.
    pub(crate) fn of(folder: &Path, root_hash: &RootHash) -> Result<Self> {
        let found = Self::read(folder)?.filter(|memory| memory.root_hash == *root_hash);
        let none = || Self { root_hash: root_hash.clone(), parts: BTreeMap::new() };
        Ok(found.unwrap_or_else(none))
    }

    /// Remembers how far a part has come. What it says must be on the disk already.
    pub(crate) fn put(&mut self, folder: &Path, part: &str, begun: Begun) -> Result<()> {
        self.parts.insert(part.to_owned(), begun);
        self.write(folder)
    }

    /// Forgets how far a part has come.
    pub(crate) fn lose(&mut self, folder: &Path, part: &str) -> Result<()> {
        if self.parts.remove(part).is_none() {
            return Ok(());
        }
        self.write(folder)
    }

    fn write(&self, folder: &Path) -> Result<()> {
        write(&folder.join(FILE), serde_yaml::to_string(self)?.as_bytes())
    }

    /// Forgets all of it.
    pub(crate) fn forget(folder: &Path) -> Result<()> {
        remove(&folder.join(FILE))
    }
}

/// Writes a file whole or not at all, and makes it durable.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let beside: PathBuf = path.with_extension("new");
    let mut file = File::create(&beside).with_context(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).with_context(failed)?;
    fs::rename(&beside, path).with_context(failed)?;
    settle(path.parent().with_context(failed)?)
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn settle(folder: &Path) -> Result<()> {
    let settled = File::open(folder).and_then(|folder| folder.sync_all());
    settled.with_context(|| format!("cannot make {} durable", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(digit: &str) -> RootHash {
        digit.repeat(64).try_into().unwrap()
    }

    #[test]
    fn only_the_release_itself_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::of(folder.path(), &hash("1")).unwrap();
        let begun = Begun::Whole { target: "root.zst".into(), come: 5 };
        memory.put(folder.path(), "root", begun.clone()).unwrap();
        let again = Memory::of(folder.path(), &hash("1")).unwrap();
        assert_eq!(again.parts.get("root"), Some(&begun));
        assert!(Memory::of(folder.path(), &hash("2")).unwrap().parts.is_empty());
        fs::write(folder.path().join(FILE), "root_hash: 7\n").unwrap();
        assert_eq!(Memory::read(folder.path()).unwrap(), None);
        Memory::forget(folder.path()).unwrap();
        Memory::forget(folder.path()).unwrap();
    }
}
