//! Files: read whole, written whole, watched.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::fchown;

mod owner; // users and groups by name
#[cfg(test)]
mod tests;
mod watch; // tells when files change

pub(crate) use owner::Ids;
pub(crate) use watch::{ANYTHING, Watch, Watched};

/// What failed, and on which file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("cannot make the folder {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot watch {}", path.display())]
    Watch { path: PathBuf, source: io::Error },
    #[error("inotify does not work")]
    Inotify(#[source] io::Error),
    #[error("this system has no user {0}")]
    NoUser(String),
    #[error("this system has no group {0}")]
    NoGroup(String),
    #[error("cannot look up the owner {name}")]
    Owner { name: String, source: io::Error },
}

/// A whole file: its text, its permission bits and its owner.
pub(crate) struct Found {
    pub(crate) text: String,
    pub(crate) mode: u32,
    pub(crate) owner: Ids,
}

/// The longest file that is read. A bundle of a thousand nodes has under 1 MiB.
const LONGEST: u64 = 16 << 20;

/// Reads a whole text file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Found>, FileError> {
    match read_open(path) {
        Ok(found) => Ok(Some(found)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Read { path: path.into(), source }),
    }
}

/// Without waiting for a writer, should somebody have put a FIFO there.
fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | flags).open(path)
}

fn read_open(path: &Path) -> io::Result<Found> {
    let file = open(path, 0)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() > LONGEST {
        let reason = format!("it is no regular file of at most {LONGEST} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let (mode, owner) = (about.mode() & 0o7777, Ids::of(&about));
    Ok(Found { text: io::read_to_string(file)?, mode, owner })
}

/// Looks at what is in the place of one of our files; `None` if there is nothing. Whatever is no file that we could
/// have written, such as a link, is something else and no error: it is to be replaced.
pub(crate) fn look(path: &Path) -> Result<Option<Found>, FileError> {
    let something_else = || Found { text: String::new(), mode: 0, owner: Ids::NOBODY };
    let failed = |source| FileError::Read { path: path.into(), source };
    let file = match open(path, libc::O_NOFOLLOW) {
        Ok(file) => file,
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => Ok(None),
                Some(libc::ELOOP | libc::ENXIO) => Ok(Some(something_else())),
                _ => Err(failed(error)),
            };
        }
    };
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() || about.len() > LONGEST {
        return Ok(Some(something_else()));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(failed)?;
    let (mode, owner) = (about.mode() & 0o7777, Ids::of(&about));
    Ok(Some(match String::from_utf8(bytes) {
        Ok(text) => Found { text, mode, owner },
        Err(_) => something_else(),
    }))
}

/// A new file beside the one that it is to replace. Dropped, it leaves the old one as it was.
#[must_use]
pub(crate) struct Staged {
    path: PathBuf,
    beside: PathBuf,
}

impl Staged {
    /// Writes the whole new file.
    pub(crate) fn new(path: &Path, text: &str, mode: u32, owner: Ids) -> Result<Self, FileError> {
        let failed = |source| FileError::Write { path: path.into(), source };
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let staged = Self { path: path.into(), beside: name.into() };
        staged.fill(text, mode, owner).map_err(failed)?;
        Ok(staged)
    }

    fn fill(&self, text: &str, mode: u32, owner: Ids) -> io::Result<()> {
        make_parents(&self.path)?;
        // Left over from a crash: its content and mode mean nothing.
        remove_if_there(&self.beside)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.beside)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(mode))?;
        if Ids::of(&file.metadata()?) != owner {
            fchown(&file, Some(owner.user), Some(owner.group))?;
        }
        file.sync_all()
    }

    /// Where the new file is.
    pub(crate) fn beside(&self) -> &Path {
        &self.beside
    }

    /// Puts it in the place of the old one, so that a reader sees the old one or the new one, also after a power
    /// cut.
    pub(crate) fn replace(self) -> Result<(), FileError> {
        let replaced =
            std::fs::rename(&self.beside, &self.path).and_then(|()| match self.path.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            });
        replaced.map_err(|source| FileError::Write { path: self.path.clone(), source })
    }
}

/// Writes a whole file of ours that everybody may read, and makes the folders on the way to it.
pub(crate) fn publish(path: &Path, text: &str) -> Result<(), FileError> {
    Staged::new(path, text, 0o644, Ids::us())?.replace()
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After the rename there is none. One that stays is removed before the next is written.
        let _ = remove_if_there(&self.beside);
    }
}

/// The folders on the way to a file, for everybody to pass, whatever the agent's own umask is.
fn make_parents(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.exists()) else { return Ok(()) };
    make_parents(folder)?;
    std::fs::create_dir(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))
}

/// Makes a folder, or gives it this mode and owner.
pub(crate) fn make_folder(path: &Path, mode: u32, owner: Ids) -> Result<(), FileError> {
    make_folder_at(path, mode, owner)
        .map_err(|source| FileError::Folder { path: path.into(), source })
}

fn make_folder_at(path: &Path, mode: u32, owner: Ids) -> io::Result<()> {
    make_parents(path)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let folder = open(path, libc::O_NOFOLLOW | libc::O_DIRECTORY)?;
    let is = Ids::of(&folder.metadata()?);
    // Only the owner of a folder may change its mode, and the agent lacks the power to pass over that.
    let us = Ids::us();
    if is != us {
        fchown(&folder, Some(us.user), Some(us.group))?;
    }
    folder.set_permissions(Permissions::from_mode(mode))?;
    if owner != us {
        fchown(&folder, Some(owner.user), Some(owner.group))?;
    }
    Ok(())
}

/// A folder's permission bits and owner; `None` if there is no folder.
pub(crate) fn look_at_folder(path: &Path) -> Result<Option<(u32, Ids)>, FileError> {
    match std::fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => Ok(Some((about.mode() & 0o7777, Ids::of(&about)))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Read { path: path.into(), source }),
    }
}

/// The names of what is in a folder, with whether each is a folder itself; nothing if there is no folder.
pub(crate) fn list(path: &Path) -> Result<Vec<(String, bool)>, FileError> {
    let failed = |source| FileError::Read { path: path.into(), source };
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Vec::new()),
                _ => Err(failed(error)),
            };
        }
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        // A name that is no text is none that the agent gave or asks for.
        names.extend(entry.file_name().into_string().ok().map(|name| (name, is_folder)));
    }
    Ok(names)
}

/// Removes a file; it is no error if there is none.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    remove_if_there(path).map_err(|source| FileError::Remove { path: path.into(), source })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
