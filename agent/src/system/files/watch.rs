//! Tells when files change, by inotify.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

use super::FileError;

/// Tells when one of a few files changed, appeared or went, by inotify on the folders they are in. A folder that
/// does not exist yet is waited for in the nearest one that does.
///
/// A link's target is not watched: replacing the link is seen, changing what it leads to is not. A path that ends
/// with [`ANYTHING`] stands for whatever is in that folder.
pub(crate) struct Watch {
    inotify: AsyncFd<Fd>,
    paths: Vec<PathBuf>,
    /// What is looked for in each watched folder: the next component on the way to a path.
    awaited: BTreeMap<WatchKey, Vec<Awaited>>,
}

/// A [`Watch`] on whatever paths matter now. One that fails is news, and made anew at the next look.
#[derive(Default)]
pub(crate) struct Watched(Option<(BTreeSet<PathBuf>, Watch)>);

impl Watched {
    /// Watches these paths and no others from now on, and says whether that is another watch than before. To be called
    /// before they are looked at, so that no change falls between.
    pub(crate) fn on(
        &mut self,
        paths: impl IntoIterator<Item = PathBuf>,
    ) -> Result<bool, FileError> {
        let paths = paths.into_iter().collect::<BTreeSet<_>>();
        let other = self.0.as_ref().is_none_or(|(watched, _)| *watched != paths);
        if other {
            let watch = Watch::new(paths.iter().cloned().collect())?;
            self.0 = Some((paths, watch));
        }
        Ok(other)
    }

    /// Resolves when one of the paths may have changed since this last resolved; never while nothing is watched.
    /// Cancel-safe, as [`Watch::changed`] is.
    pub(crate) async fn changed(&mut self) {
        let Some((_, watch)) = &mut self.0 else { return std::future::pending().await };
        if watch.changed().await.is_err() {
            self.0 = None;
        }
    }
}

/// The last component of a path that stands for any name.
pub(crate) const ANYTHING: &str = "*";

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
            .filter(|awaited| awaited.is(name))
            .any(|awaited| !(created && awaited.last && awaited.is_being_written(name)))
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

impl Awaited {
    fn is(&self, name: &OsStr) -> bool {
        let own = self.path.file_name();
        own == Some(name) || (self.last && own == Some(OsStr::new(ANYTHING)))
    }

    /// A regular file that was just created is empty: the news is when its writer closes it. A link or a socket is
    /// whole from the start, and so is a file that has a second name.
    fn is_being_written(&self, name: &OsStr) -> bool {
        std::fs::symlink_metadata(self.path.with_file_name(name))
            .is_ok_and(|about| about.is_file() && about.nlink() == 1)
    }
}
