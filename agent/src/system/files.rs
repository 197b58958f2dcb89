//! Files: read whole, written whole, watched.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

#[cfg(test)]
mod tests;

/// What failed, and on which file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("cannot watch {}", path.display())]
    Watch { path: PathBuf, source: io::Error },
    #[error("inotify does not work")]
    Inotify(#[source] io::Error),
}

/// A whole file: its text and its permission bits.
pub(crate) struct Found {
    pub(crate) text: String,
    pub(crate) mode: u32,
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

fn read_open(path: &Path) -> io::Result<Found> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() > LONGEST {
        let reason = format!("it is no regular file of at most {LONGEST} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(Found { text: io::read_to_string(file)?, mode: about.mode() & 0o7777 })
}

/// Writes a whole file so that a reader sees the old one or the new one, also after a power cut: a new file
/// beside it, synced, then renamed over it.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    write_beside(path, text, mode).map_err(|source| FileError::Write { path: path.into(), source })
}

fn write_beside(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    // Left over from a crash: its content and mode mean nothing.
    remove_if_there(&beside)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode & 0o600).open(&beside)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
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

/// Tells when one of a few files changed, appeared or went, by inotify on the folders they are in. A folder that
/// does not exist yet is waited for in the nearest one that does.
///
/// A link's target is not watched: replacing the link is seen, changing what it leads to is not.
pub(crate) struct Watch {
    inotify: AsyncFd<Fd>,
    paths: Vec<PathBuf>,
    /// What is looked for in each watched folder: the next component on the way to a path.
    awaited: BTreeMap<WatchKey, Vec<Awaited>>,
}

/// [`AsyncFd`] wants `AsRawFd`, which nix's type has not.
struct Fd(Inotify);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Puts inotify under the runtime's reactor.
#[expect(
    deprecated,
    reason = "its successor needs `unsafe`: the descriptor must stay open and the same, and `Inotify` owns it"
)]
fn register(inotify: Inotify) -> io::Result<AsyncFd<Fd>> {
    AsyncFd::new(Fd(inotify))
}

type WatchKey = i32;

/// One name that matters in a folder.
#[derive(Debug, Clone, PartialEq)]
struct Awaited {
    path: PathBuf,
    /// It is the file itself and not a folder on the way.
    last: bool,
}

impl Watch {
    /// Watches these paths, which must be absolute.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Result<Self, FileError> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(|errno| FileError::Inotify(errno.into()))?;
        let inotify = register(inotify).map_err(FileError::Inotify)?;
        let mut watch = Self { inotify, paths, awaited: BTreeMap::new() };
        watch.arm()?;
        Ok(watch)
    }

    /// Resolves when one of the files may have changed since this last resolved. Cancel-safe: what was read
    /// from inotify is judged and returned without another await.
    pub(crate) async fn changed(&mut self) -> Result<(), FileError> {
        loop {
            let mut ready = self.inotify.readable().await.map_err(FileError::Inotify)?;
            let events = match ready.get_inner().0.read_events() {
                Ok(events) => events,
                Err(nix::errno::Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(errno) => return Err(FileError::Inotify(errno.into())),
            };
            if self.matter(&events)? {
                return Ok(());
            }
        }
    }

    /// Whether any of these events is about a watched path. Folders that came or went move the watches.
    fn matter(&mut self, events: &[InotifyEvent]) -> Result<bool, FileError> {
        let matter = events.iter().any(|event| self.matters(event));
        let moved = AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVE_SELF;
        if events.iter().any(|event| event.mask.intersects(moved)) {
            self.arm()?;
        }
        Ok(matter)
    }

    fn matters(&self, event: &InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        let (Some(awaited), Some(name)) = (self.awaited.get(&key(event.wd)), &event.name) else {
            return false;
        };
        let created = event.mask.contains(AddWatchFlags::IN_CREATE);
        awaited
            .iter()
            .filter(|awaited| awaited.path.file_name() == Some(name))
            .any(|awaited| !(created && awaited.last && is_being_written(&awaited.path)))
    }

    /// Puts a watch on the folder of each path, or on the nearest folder above that exists.
    fn arm(&mut self) -> Result<(), FileError> {
        let mut awaited: BTreeMap<WatchKey, Vec<Awaited>> = BTreeMap::new();
        for path in &self.paths {
            let (key, name) = self.arm_one(path)?;
            awaited.entry(key).or_default().push(name);
        }
        self.awaited = awaited;
        Ok(())
    }

    fn arm_one(&self, path: &Path) -> Result<(WatchKey, Awaited), FileError> {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let mut awaited = path;
        while let Some(folder) = awaited.parent() {
            match self.inotify.get_ref().0.add_watch(folder, flags) {
                Ok(watch) => {
                    return Ok((
                        key(watch),
                        Awaited { path: awaited.into(), last: awaited == path },
                    ));
                }
                Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => awaited = folder,
                Err(errno) => {
                    return Err(FileError::Watch { path: folder.into(), source: errno.into() });
                }
            }
        }
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not absolute");
        Err(FileError::Watch { path: path.into(), source })
    }
}

fn key(watch: WatchDescriptor) -> WatchKey {
    watch.as_raw()
}

/// A regular file that was just created is empty: the news is when its writer closes it. A link or a socket is
/// whole from the start, and so is a file that has a second name.
fn is_being_written(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.nlink() == 1)
}
