//! A folder of releases as a client sees it: over plain HTTP, with tough.

use std::net::TcpListener;
use std::thread;

use futures_util::TryStreamExt as _;
use tempfile::TempDir;
use tough::RepositoryLoader;
use trilith_core::secrets::Secret;

use super::*;
use crate::cluster::KeyPair;
use crate::keys::make::role_key;
use crate::keys::store::{Offline, VERSION};
use crate::keys::tuf::next_root;
use crate::release::block_on;
use crate::release::store::Store;

const LONG: Lifetimes = Lifetimes { targets: 365, snapshot: 90, timestamp: 30 };

/// An operator with keys and a folder of releases, which a web server shows, and a node that remembers what it saw.
struct World {
    folder: TempDir,
    online: Online,
    offline: Offline,
    url: String,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let none = || KeyPair { certificate: String::new(), key: Secret::from(String::new()) };
        let online = Online {
            version: VERSION,
            recipients: Vec::new(),
            db: Vec::new(),
            verity: none(),
            targets: role_key().unwrap(),
            snapshot: role_key().unwrap(),
            timestamp: role_key().unwrap(),
        };
        let offline = Offline {
            version: VERSION,
            recipients: Vec::new(),
            root: role_key().unwrap(),
            root_before: None,
            pk: none(),
            kek: none(),
            owner: String::new(),
        };
        for name in ["keys/roots", "releases", "node"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let root = block_on(next_root((&online, &offline), None, NonZeroU64::MIN, 100)).unwrap();
        fs::write(folder.path().join("keys/roots/1.root.json"), root).unwrap();
        let url = serve(&folder.path().join("releases"));
        Self { folder, online, offline, url }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn repository(&self) -> Repository {
        let roots = Roots::read(&self.at("keys")).unwrap();
        Repository::open(self.at("releases"), roots).unwrap()
    }

    fn release(&self, version: &str, lifetimes: &Lifetimes) {
        let mut repository = self.repository();
        let mut store = Store::new(&repository.targets()).unwrap();
        let version: Version = version.parse().unwrap();
        for end in ["yaml", "root.zst"] {
            fs::write(self.at("made"), format!("{end} of {version}")).unwrap();
            fs::rename(self.at("made"), self.at("releases/made")).unwrap();
            store.take(&self.at("releases/made"), &format!("{}.{end}", version.label())).unwrap();
        }
        let print = format!("built {version}");
        block_on(repository.add(&version, print, store.targets, (&self.online, lifetimes)))
            .unwrap();
    }

    fn refresh(&self, lifetimes: &Lifetimes) {
        block_on(self.repository().refresh(&self.online, lifetimes)).unwrap();
    }

    /// The same list of releases under a new snapshot, as it would be if nobody looked at who had signed it.
    fn publish_as_it_is(&self) {
        block_on(self.repository().publish(None, &self.online, &LONG)).unwrap();
    }

    fn rotate(&mut self, replace: impl Fn(&mut Online, &mut Offline)) {
        let roots = Roots::read(&self.at("keys")).unwrap();
        let before = self.offline.root.clone();
        replace(&mut self.online, &mut self.offline);
        let keys = (&self.online, &self.offline);
        let root = block_on(next_root(keys, Some(&before), roots.next(), 100)).unwrap();
        roots.add(&root).unwrap();
    }

    /// What the node sees, which trusts the first root and what it saw before.
    fn look(&self) -> Result<tough::Repository, String> {
        let root = fs::read(self.at("keys/roots/1.root.json")).unwrap();
        let url = |name: &str| format!("{}/{name}/", self.url).parse().unwrap();
        let loader = RepositoryLoader::new(&root, url("metadata"), url("targets"));
        let loading = loader.datastore(self.at("node")).load();
        block_on(async { Ok(loading.await.map_err(|error| said(&error))) }).unwrap()
    }

    fn fetch(&self, name: &str) -> Result<Vec<u8>, String> {
        let repository = self.look()?;
        let fetching = async {
            let name = TargetName::new(name).unwrap();
            let stream = repository.read_target(&name).await.map_err(|error| said(&error))?;
            let stream = stream.ok_or("there is no such target")?;
            let pieces: Vec<_> = stream.try_collect().await.map_err(|error| said(&error))?;
            Ok::<Vec<u8>, String>(pieces.concat())
        };
        block_on(async { Ok(fetching.await) }).unwrap()
    }

    #[track_caller]
    fn refused(&self, words: &str) {
        let error = self.look().unwrap_err();
        assert!(error.contains(words), "{error}");
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.at("releases/metadata").join(name)
    }
}

fn said(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn serve(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let files = axum::Router::new().fallback_service(tower_http::services::ServeDir::new(folder));
    thread::spawn(move || {
        block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            Ok(axum::serve(listener, files).await?)
        })
    });
    url
}

#[test]
fn releases_are_added_and_fetched() {
    let world = World::new();
    world.release("1.0", &LONG);
    world.release("1.1", &LONG);
    assert_eq!(world.fetch("trilith_1.0.root.zst").unwrap(), b"root.zst of 1.0");
    assert_eq!(world.fetch("trilith_1.1.yaml").unwrap(), b"yaml of 1.1");
    assert_eq!(world.fetch("trilith_1.2.yaml").unwrap_err(), "there is no such target");
    let repository = world.repository();
    let versions: Vec<String> = repository.releases().iter().map(ToString::to_string).collect();
    assert_eq!(versions, ["1.0", "1.1"]);
    assert_eq!(repository.fingerprint(&versions[0].parse().unwrap()), Some("built 1.0"));
}

#[test]
fn a_changed_byte_is_refused() {
    let world = World::new();
    world.release("1.0", &LONG);
    let path = world.repository().file("trilith_1.0.root.zst").unwrap();
    fs::write(&path, "root.zst of 1.1").unwrap();
    let error = world.fetch("trilith_1.0.root.zst").unwrap_err();
    assert!(error.contains("Hash mismatch"), "{error}");
    let error = world.repository().file("trilith_1.0.root.zst").unwrap_err().to_string();
    assert!(error.ends_with("is not what was signed"), "{error}");
    let list = world.metadata("1.targets.json");
    let text = fs::read_to_string(&list).unwrap().replace("\"version\": 1", "\"version\": 2");
    fs::write(&list, text).unwrap();
    world.refused("Hash mismatch");
}

#[test]
fn metadata_that_has_expired_is_refused() {
    for (name, lifetimes) in [
        ("targets", Lifetimes { targets: 0, ..LONG }),
        ("snapshot", Lifetimes { snapshot: 0, ..LONG }),
        // Whoever shows the same for ever keeps nodes from hearing of what is new until this.
        ("timestamp", Lifetimes { timestamp: 0, ..LONG }),
    ] {
        let world = World::new();
        world.release("1.0", &lifetimes);
        world.refused(&format!("{name} metadata is expired"));
        world.refresh(&LONG);
        assert_eq!(world.fetch("trilith_1.0.yaml").unwrap(), b"yaml of 1.0", "signed anew");
    }
}

#[test]
fn what_a_node_has_seen_is_not_taken_back() {
    let world = World::new();
    world.release("1.0", &LONG);
    let old = fs::read(world.metadata("timestamp.json")).unwrap();
    world.release("1.1", &LONG);
    world.look().unwrap();
    let new = fs::read(world.metadata("timestamp.json")).unwrap();
    fs::write(world.metadata("timestamp.json"), &old).unwrap();
    world.refused("Found version 1 of timestamp metadata when we had previously fetched version 2");

    // The same by who holds the timestamp's key: the newest timestamp leads to the old snapshot.
    fs::write(world.metadata("timestamp.json"), &new).unwrap();
    let mut forged: Signed<Timestamp> = serde_json::from_slice(&new).unwrap();
    let snapshot = fs::read(world.metadata("1.snapshot.json")).unwrap();
    forged.signed.meta.insert("snapshot.json".into(), describe(&snapshot, NonZeroU64::MIN));
    forged.signed.version = next(2);
    let root = world.repository().roots.newest.clone();
    let forged = block_on(sign(forged.signed, &root, &world.online)).unwrap();
    fs::write(world.metadata("timestamp.json"), forged.buffer()).unwrap();
    world.refused("Snapshot version 1 in timestamp 3 is less than 2 in timestamp 2");
}

#[test]
fn a_removed_key_signs_nothing() {
    let mut world = World::new();
    world.release("1.0", &LONG);
    world.look().unwrap();
    world.rotate(|online, _| online.targets = role_key().unwrap());
    world.publish_as_it_is();
    world.refused("Failed to verify targets metadata: Signature threshold of 1 not met");
    world.refresh(&LONG);
    assert_eq!(world.fetch("trilith_1.0.yaml").unwrap(), b"yaml of 1.0", "signed by the new key");
}

#[test]
fn every_key_can_be_replaced() {
    let mut world = World::new();
    world.release("1.0", &LONG);
    world.look().unwrap();
    let replace: [fn(&mut Online, &mut Offline); 4] = [
        |_, offline| offline.root = role_key().unwrap(),
        |online, _| online.snapshot = role_key().unwrap(),
        |online, _| online.timestamp = role_key().unwrap(),
        |_, offline| offline.root = role_key().unwrap(),
    ];
    for (number, replace) in (1..).zip(replace) {
        world.rotate(replace);
        world.refresh(&LONG);
        assert_eq!(world.look().unwrap().root().signed.version.get(), number + 1);
    }
    world.release("1.1", &LONG);
    assert_eq!(world.fetch("trilith_1.1.yaml").unwrap(), b"yaml of 1.1");
}

#[test]
fn a_strangers_root_is_refused() {
    let world = World::new();
    world.release("1.0", &LONG);
    let stranger = World::new();
    let keys = (&stranger.online, &stranger.offline);
    let root = block_on(next_root(keys, None, next(1), 100)).unwrap();
    fs::write(world.metadata("2.root.json"), root).unwrap();
    world.refused("Failed to verify root metadata");
    let roots = Roots::read(&stranger.at("keys")).unwrap();
    let error = Repository::open(world.at("releases"), roots).err().unwrap();
    let error = format!("{error:#}");
    assert!(error.contains("timestamp.json is signed by none of these keys"), "{error}");
}

/// At each file that is written: what nodes see is what was there before, until all is there.
#[test]
fn a_release_that_was_cut_off_is_never_seen() {
    let world = World::new();
    world.release("1.0", &LONG);
    let before = fs::read(world.metadata("timestamp.json")).unwrap();
    world.release("1.1", &LONG);
    // All was written but the last file.
    fs::write(world.metadata("timestamp.json"), before).unwrap();
    assert_eq!(world.fetch("trilith_1.0.yaml").unwrap(), b"yaml of 1.0");
    assert_eq!(world.fetch("trilith_1.1.yaml").unwrap_err(), "there is no such target");
    let repository = world.repository();
    assert_eq!(repository.releases().len(), 1);
    let store = Store::new(&repository.targets()).unwrap();
    store.sweep(&repository.named()).unwrap();
    let left = fs::read_dir(repository.targets()).unwrap().count();
    assert_eq!(left, 2, "what nothing leads to is gone");
    drop(repository);
    world.release("1.1", &LONG);
    assert_eq!(world.fetch("trilith_1.1.yaml").unwrap(), b"yaml of 1.1");
}
