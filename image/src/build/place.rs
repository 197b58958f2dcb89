//! Where a build reads and writes: the repository, and the folders below `target/`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folders of one repository.
pub(crate) struct Place {
    /// The top of the repository.
    pub(crate) top: PathBuf,
    /// Where everything that is kept between builds lies: `target/build`.
    pub(crate) kept: PathBuf,
    /// Held while a build runs: two at once would write into each other's layers.
    _lock: fs::File,
}

impl Place {
    /// Finds the repository from the working directory upwards, and locks it for this build.
    ///
    /// # Errors
    /// The working directory is not in the repository, or another build runs in it.
    pub(crate) fn find() -> Result<Self> {
        let top = top()?;
        let kept = top.join("target/build");
        fs::create_dir_all(kept.join("log"))
            .with_context(|| format!("cannot make {}", kept.display()))?;
        let lock = fs::File::create(kept.join("lock")).context("cannot make the lock")?;
        if lock.try_lock().is_err() {
            bail!("another `trilith build` runs in {}", top.display());
        }
        Ok(Self { top, kept, _lock: lock })
    }

    /// A path below the repository's overlays.
    pub(crate) fn overlay(&self, name: &str) -> PathBuf {
        self.top.join("overlays").join(name)
    }

    /// The log file of one step.
    pub(crate) fn log(&self, step: &str) -> PathBuf {
        self.kept.join("log").join(format!("{step}.log"))
    }

    /// The path of something kept: `NAME-KEY`.
    pub(crate) fn keyed(&self, name: &str, key: &str) -> PathBuf {
        self.kept.join(format!("{name}-{key}"))
    }

    /// An empty folder for something under construction.
    ///
    /// # Errors
    /// The file system.
    pub(crate) fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.kept.join(format!("{name}.new"));
        remove(&path)?;
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Removes what was kept under the same name with other keys.
    ///
    /// # Errors
    /// The file system.
    pub(crate) fn forget_others(&self, name: &str, key: &str) -> Result<()> {
        for entry in fs::read_dir(&self.kept)? {
            let entry = entry?;
            let file = entry.file_name();
            let other = file.to_str().and_then(|file| file.strip_prefix(name)?.strip_prefix('-'));
            if other.is_some_and(|other| other.len() == key.len() && other != key) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// The repository that the working directory is in.
///
/// # Errors
/// It is in none.
pub(crate) fn top() -> Result<PathBuf> {
    let start = env::current_dir().context("cannot tell the working directory")?;
    let mut folders = start.ancestors();
    let top = folders.find(|it| it.join("mkosi.conf").is_file() && it.join("overlays").is_dir());
    let none = || format!("{} is not in Trilith's repository: no mkosi.conf", start.display());
    Ok(top.with_context(none)?.canonicalize()?)
}

/// Removes a file or a whole folder; that there is none is fine.
///
/// # Errors
/// The file system.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let gone = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    gone.with_context(|| format!("cannot remove {}", path.display()))
}

/// Writes a text file with the folders above it.
///
/// # Errors
/// The file system.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
