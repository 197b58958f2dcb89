use std::time::Duration;

use tokio::time::timeout;

use super::*;

fn write(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    Staged::new(path, text, mode, Ids::us())?.replace()
}

/// A folder of its own for each test, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("trilith-files-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn comes(watch: &mut Watch) {
    timeout(Duration::from_secs(10), watch.changed()).await.expect("no event came").unwrap();
}

/// Nothing is pending: the kernel queues inotify events before the call that caused them returns.
async fn is_quiet(watch: &mut Watch) -> bool {
    timeout(Duration::from_millis(1), watch.changed()).await.is_err()
}

#[test]
fn writes_whole_with_its_mode_and_leaves_nothing_beside() {
    let folder = Folder::new("write");
    let path = folder.at("keys");
    std::fs::write(folder.at("keys.new"), "left over").unwrap();
    for (text, mode) in [("one", 0o600), ("two and more", 0o644), ("", 0o600)] {
        write(&path, text, mode).unwrap();
        let found = read(&path).unwrap().unwrap();
        assert_eq!((found.text.as_str(), found.mode), (text, mode));
    }
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
    remove(&path).unwrap();
    remove(&path).unwrap();
    assert!(read(&path).unwrap().is_none());
}

#[test]
fn an_error_names_the_file() {
    let folder = Folder::new("error");
    let error = read(&folder.0).err().unwrap();
    assert_eq!(error.to_string(), format!("cannot read {}", folder.0.display()));
    std::fs::write(folder.at("file"), "").unwrap();
    let error = write(&folder.at("file/below"), "", 0o600).err().unwrap();
    assert_eq!(error.to_string(), format!("cannot write {}", folder.at("file/below").display()));
}

#[tokio::test]
async fn sees_a_file_written_renamed_over_and_removed() {
    let folder = Folder::new("watch");
    let path = folder.at("bundle.yaml");
    let mut watch = Watch::new(vec![path.clone()]).unwrap();
    std::fs::write(&path, "a").unwrap();
    comes(&mut watch).await;
    write(&path, "b", 0o600).unwrap();
    comes(&mut watch).await;
    std::fs::remove_file(&path).unwrap();
    comes(&mut watch).await;
    assert!(is_quiet(&mut watch).await);
}

#[tokio::test]
async fn a_half_written_file_and_its_neighbours_are_no_news() {
    let folder = Folder::new("half");
    let path = folder.at("bundle.yaml");
    let mut watch = Watch::new(vec![path.clone()]).unwrap();
    let mut file = File::create(&path).unwrap();
    file.write_all(b"half").unwrap();
    std::fs::write(folder.at("neighbour"), "x").unwrap();
    assert!(is_quiet(&mut watch).await);
    drop(file);
    comes(&mut watch).await;
}

#[tokio::test]
async fn waits_for_folders_that_do_not_exist_yet() {
    let folder = Folder::new("deep");
    let path = folder.at("a/b/bundle.yaml");
    let mut watch = Watch::new(vec![path.clone()]).unwrap();
    std::fs::create_dir(folder.at("a")).unwrap();
    comes(&mut watch).await;
    std::fs::create_dir(folder.at("a/b")).unwrap();
    comes(&mut watch).await;
    std::fs::write(&path, "x").unwrap();
    comes(&mut watch).await;
    std::fs::remove_dir_all(folder.at("a")).unwrap();
    comes(&mut watch).await;
    // All at once: the file is already there when the watch moves down to its folder.
    std::fs::create_dir_all(folder.at("a/b")).unwrap();
    std::fs::write(&path, "y").unwrap();
    comes(&mut watch).await;
}

fn folder_and_mode(path: &Path) -> (u32, Ids) {
    look_at_folder(path).unwrap().unwrap()
}

#[test]
fn a_staged_file_that_is_dropped_leaves_the_old_one() {
    let folder = Folder::new("staged");
    let path = folder.at("deep/er/conf");
    write(&path, "old", 0o640).unwrap();
    let staged = Staged::new(&path, "new", 0o600, Ids::us()).unwrap();
    assert_eq!(std::fs::read_to_string(staged.beside()).unwrap(), "new");
    drop(staged);
    let found = look(&path).unwrap().unwrap();
    assert_eq!((found.text.as_str(), found.mode, found.owner), ("old", 0o640, Ids::us()));
    assert_eq!(list(path.parent().unwrap()).unwrap(), [("conf".to_owned(), false)]);
    // Others pass through to their own files, whatever the umask is.
    assert_eq!(folder_and_mode(&folder.at("deep")).0, 0o755);
}

#[test]
fn what_we_could_not_have_written_is_something_else() {
    let folder = Folder::new("else");
    std::fs::write(folder.at("target"), "x").unwrap();
    std::os::unix::fs::symlink(folder.at("target"), folder.at("link")).unwrap();
    nix::unistd::mkfifo(&folder.at("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::fs::write(folder.at("bytes"), [0xff, 0xfe]).unwrap();
    std::fs::create_dir(folder.at("folder")).unwrap();
    for name in ["link", "fifo", "bytes", "folder"] {
        let found = look(&folder.at(name)).unwrap().unwrap();
        assert_eq!((found.text.as_str(), found.mode, found.owner), ("", 0, Ids::NOBODY), "{name}");
    }
    assert!(look(&folder.at("none")).unwrap().is_none());
    assert!(look(&folder.at("target/below")).unwrap().is_none());
    write(&folder.at("link"), "ours", 0o600).unwrap();
    assert_eq!(std::fs::read_to_string(folder.at("target")).unwrap(), "x");
}

#[test]
fn folders_get_their_mode_back() {
    let folder = Folder::new("mode");
    let path = folder.at("secrets");
    assert!(look_at_folder(&path).unwrap().is_none());
    make_folder(&path, 0o700, Ids::us()).unwrap();
    assert_eq!(folder_and_mode(&path), (0o700, Ids::us()));
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    make_folder(&path, 0o700, Ids::us()).unwrap();
    assert_eq!(folder_and_mode(&path), (0o700, Ids::us()));
    std::fs::write(folder.at("file"), "").unwrap();
    let error = make_folder(&folder.at("file"), 0o700, Ids::us()).err().unwrap();
    assert!(error.to_string().starts_with("cannot make the folder "), "{error}");
}

#[test]
fn owners_have_names() {
    let root = Ids::named("root", "root").unwrap();
    assert_eq!(root.names(), ("root".to_owned(), "root".to_owned()));
    assert_eq!(Ids::NOBODY.names(), (u32::MAX.to_string(), u32::MAX.to_string()));
    let error = Ids::named("no-such-user", "root").unwrap_err();
    assert_eq!(error.to_string(), "this system has no user no-such-user");
    let error = Ids::named("root", "no-such-group").unwrap_err();
    assert_eq!(error.to_string(), "this system has no group no-such-group");
}

#[tokio::test]
async fn anything_in_a_folder_is_news() {
    let folder = Folder::new("anything");
    let mut watch = Watch::new(vec![folder.at("in").join(ANYTHING)]).unwrap();
    std::fs::create_dir(folder.at("in")).unwrap();
    comes(&mut watch).await;
    std::fs::write(folder.at("in/stray"), "x").unwrap();
    comes(&mut watch).await;
    std::fs::create_dir(folder.at("in/ceph-3")).unwrap();
    comes(&mut watch).await;
    std::fs::write(folder.at("beside"), "x").unwrap();
    assert!(is_quiet(&mut watch).await);
}
