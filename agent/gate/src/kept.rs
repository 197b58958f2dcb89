//! Files that outlive the program: whole or not there, whenever the power fails.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use trilith_core::gate::{BEFORE, Before, FAILED, Failed, FailedList, WHY, Why};
use trilith_core::version::Version;

/// The folder of them.
pub(crate) struct Kept(PathBuf);

impl Kept {
    /// In this folder, which is made when something is kept.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// What was before; `None` if nobody has written that down. One that cannot be read is told, and is none.
    pub(crate) fn before(&self) -> Option<Before> {
        told(self.read(BEFORE, |text| Ok(Before::parse(text)?)))
    }

    /// Writes down what was before. What boots of an earlier trial have left is no longer true.
    pub(crate) fn remember(&self, before: &Before) -> Result<()> {
        self.forget(WHY)?;
        put(&self.0.join(BEFORE), &before.text()?)
    }

    /// What the last boot on trial has left; one that cannot be read is told, and is none.
    pub(crate) fn why(&self) -> Option<Why> {
        told(self.read(WHY, |text| Ok(Why::parse(text)?)))
    }

    /// Writes down why the release is not proven yet.
    pub(crate) fn put_why(&self, why: &Why) -> Result<()> {
        put(&self.0.join(WHY), &why.text()?)
    }

    /// The releases that have failed. A list that cannot be read is told, and begun anew: what has failed now matters more.
    pub(crate) fn failed(&self) -> FailedList {
        told(self.read(FAILED, |text| Ok(FailedList::parse(text)?))).unwrap_or_default()
    }

    /// Adds one.
    pub(crate) fn add_failed(&self, failed: Failed) -> Result<()> {
        let mut list = self.failed();
        list.add(failed);
        put(&self.0.join(FAILED), &list.text()?)
    }

    /// The trial is over, however it ended: what was written for it goes.
    pub(crate) fn close(&self) -> Result<()> {
        self.forget(WHY)?;
        self.forget(BEFORE)
    }

    /// A release that has proven itself has not failed.
    pub(crate) fn forgive(&self, version: &Version) -> Result<()> {
        let mut list = self.failed();
        if list.has(version, None).is_none() {
            return Ok(());
        }
        list.forget(version);
        put(&self.0.join(FAILED), &list.text()?)
    }

    fn read<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
        let path = self.0.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let parsed = parse(&text);
                parsed.map(Some).with_context(|| format!("{} is not understood", path.display()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn forget(&self, name: &str) -> Result<()> {
        let path = self.0.join(name);
        match fs::remove_file(&path) {
            Ok(()) => settle(&self.0),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
        }
    }
}

/// What there is, or nothing and a line in the journal.
fn told<T>(read: Result<Option<T>>) -> Option<T> {
    read.inspect_err(|error| eprintln!("trilith-gate: {error:#}")).ok().flatten()
}

/// Writes a file, whole.
pub(crate) fn put(path: &Path, text: &str) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let folder = path.parent().with_context(failed)?;
    fs::create_dir_all(folder).with_context(failed)?;
    let beside = path.with_extension("new");
    let mut file = File::create(&beside).with_context(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    fs::rename(&beside, path).with_context(failed)?;
    settle(folder)
}

fn settle(folder: &Path) -> Result<()> {
    let settled = File::open(folder).and_then(|folder| folder.sync_all());
    settled.with_context(|| format!("cannot make {} durable", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn a_trial_leaves_nothing_but_its_failure() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path().join("made"));
        assert_eq!(kept.before(), None);
        assert_eq!(kept.failed(), FailedList::default());
        let why = Why { version: version("2"), root: None, why: "x".into(), over: true };
        kept.put_why(&why).unwrap();
        assert_eq!(kept.why(), Some(why));
        let before = Before::unknown(version("2"));
        kept.remember(&before).unwrap();
        assert_eq!((kept.before(), kept.why()), (Some(before), None));
        let failed =
            |text: &str| Failed { version: version(text), root: None, why: "x".into(), at: 1 };
        kept.add_failed(failed("2")).unwrap();
        kept.add_failed(failed("3")).unwrap();
        kept.forgive(&version("2")).unwrap();
        kept.close().unwrap();
        assert_eq!(kept.before(), None);
        assert!(kept.failed().has(&version("3"), None).is_some());
        assert!(kept.failed().has(&version("2"), None).is_none());
    }

    #[test]
    fn what_cannot_be_read_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for name in [BEFORE, WHY, FAILED] {
            fs::write(folder.path().join(name), "{").unwrap();
        }
        let kept = Kept::new(folder.path().to_owned());
        assert_eq!((kept.before(), kept.why()), (None, None));
        let failed = Failed { version: version("2"), root: None, why: "x".into(), at: 1 };
        kept.add_failed(failed).unwrap();
        assert!(kept.failed().has(&version("2"), None).is_some());
    }
}
