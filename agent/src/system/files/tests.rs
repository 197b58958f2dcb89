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
