//! Parts from a folder, by every way, cut off and gone on with.

use std::cell::Cell;
use std::fs;
use std::io::Write as _;

use anyhow::bail;
use ring::digest::digest;
use tempfile::TempDir;
use trilith_core::release::{Base, Chunks, Delta, Download, Inside, PIECE, Piece, REFERENCE};
use trilith_core::update;

use super::*;
use crate::metadata::Target;

/// The size of a part, and of what a piece of a delta makes.
const SIZE: usize = 3_000_000;
const MAKES: usize = 1_000_000;

/// A source with one part of a release, and a node with the part of an older one.
struct World {
    folder: TempDir,
    source: Source,
    releases: Releases,
    part: Part,
    new: Vec<u8>,
}

/// Bytes that nothing can compress (xorshift).
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let step = |state: &u64| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        Some(state ^ (state << 17))
    };
    std::iter::successors(Some(seed), step).flat_map(u64::to_le_bytes).take(size).collect()
}

fn known_by(bytes: &[u8]) -> Sha256 {
    Sha256::try_from(hex(digest(&SHA256, bytes).as_ref())).unwrap()
}

fn root(digit: &str) -> RootHash {
    digit.repeat(64).try_into().unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn differs(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), 3, old).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(new).unwrap();
    encoder.finish().unwrap()
}

fn packed(content: &[u8]) -> Vec<u8> {
    let mut encoder = trilith_frame::encoder(Vec::new()).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

impl World {
    fn new() -> Self {
        let old = noise(1, SIZE);
        let mut new = old.clone();
        for at in [5, MAKES + 5, 2 * MAKES + 5] {
            new[at..at + 20_000].copy_from_slice(&noise(at as u64, 20_000));
        }
        Self::of(&old, new)
    }

    fn of(old: &[u8], new: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("source/targets")).unwrap();
        fs::write(folder.path().join("old"), old).unwrap();
        let source = update::Source::Folder(folder.path().join("source").display().to_string());
        let whole = zstd::encode_all(new.as_slice(), 3).unwrap();
        let download =
            |target: &str, size: usize| Download { target: target.into(), size: size as u64 };
        let part = Part {
            size: new.len() as u64,
            sha256: known_by(&new),
            whole: download("whole", whole.len()),
            chunks: None,
            deltas: Vec::new(),
        };
        let source = Source::new(&source).unwrap();
        let mut world = Self { folder, source, releases: Releases::default(), part, new };
        world.target("whole", &whole);
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn target(&mut self, name: &str, content: &[u8]) {
        let (path, sha256) = (format!("targets/{name}"), known_by(content));
        fs::write(self.at("source").join(&path), content).unwrap();
        let size = content.len() as u64;
        self.releases.add(name, Target { path, sha256, size });
    }

    /// Adds a delta of three pieces.
    fn with_delta(mut self) -> Self {
        let old = fs::read(self.at("old")).unwrap();
        let (mut all, mut pieces) = (Vec::new(), Vec::new());
        for content in self.new.chunks(MAKES) {
            let frame = differs(&old, content);
            pieces.push(Piece {
                makes: content.len() as u64,
                from: 0,
                reads: SIZE as u64,
                size: frame.len() as u64,
                sha256: known_by(&frame),
                inside: None,
            });
            all.extend(frame);
        }
        self.deltas(pieces, &all);
        self
    }

    fn deltas(&mut self, pieces: Vec<Piece>, content: &[u8]) {
        let download = Download { target: "delta".into(), size: content.len() as u64 };
        let base = Base { version: "1".parse().unwrap(), root_hash: root("1") };
        self.part.deltas.push(Delta { base, download, pieces });
        self.target("delta", content);
    }

    /// Old and new are frames, and the delta is one of what is in them. `change` makes the piece another one.
    fn with_frames(change: impl Fn(&mut Piece)) -> Self {
        let old = noise(1, SIZE);
        let new = [&old[..MAKES], b"news", &old[MAKES..]].concat();
        let (frame, packed_old, packed_new) = (differs(&old, &new), packed(&old), packed(&new));
        let mut piece = Piece {
            makes: packed_new.len() as u64,
            from: 0,
            reads: packed_old.len() as u64,
            size: frame.len() as u64,
            sha256: known_by(&frame),
            inside: Some(Inside { reads: old.len() as u64, makes: new.len() as u64 }),
        };
        change(&mut piece);
        let mut world = Self::of(&packed_old, packed_new);
        world.deltas(vec![piece], &frame);
        world
    }

    /// Adds chunks.
    fn with_chunks(mut self) -> Self {
        use bitar::api::compress::{CreateArchiveOptions, create_archive};
        let archive = block_on(async {
            let mut archive = std::io::Cursor::new(Vec::new());
            let options = CreateArchiveOptions {
                chunk_hash_length: 16,
                compression: Some(bitar::Compression::zstd(3).unwrap()),
                ..CreateArchiveOptions::default()
            };
            create_archive(self.new.as_slice(), &mut archive, &options).await.unwrap();
            archive.into_inner()
        });
        let archive_size = archive.len() as u64;
        self.target("chunks", &archive);
        let archive = Download { target: "chunks".into(), size: archive_size };
        self.part.chunks = Some(Chunks { archive, seeds: Vec::new() });
        self
    }

    /// Fetches it, but no further than to where so much is there. Gives how many bytes were fetched.
    fn fetch(&self, until: u64, room: u64) -> (Result<()>, u64) {
        let cut = Cell::new(false);
        let tell = |done: u64, _: u64| {
            cut.set(cut.get() || done >= until);
            if cut.get() {
                bail!("cut off");
            }
            Ok(())
        };
        let memory = Memory::of(self.folder.path(), &root("2")).unwrap();
        let (source, releases, folder) = (&self.source, &self.releases, self.folder.path());
        let mut fetch = Fetch { source, releases, neighbours: None, folder, memory, tell: &tell };
        let mut to = Place::file(&self.at("new")).unwrap();
        to.room = room;
        let old = Old {
            root_hash: root("1"),
            path: self.at("old"),
            size: fs::metadata(self.at("old")).unwrap().len(),
        };
        let before = self.source.fetched();
        let done = block_on(fetch.part("root", &self.part, &to, Some(&old)));
        (done, self.source.fetched() - before)
    }

    fn whole(&self) -> u64 {
        self.part.whole.size
    }

    #[track_caller]
    fn is_there(&self) {
        assert!(fs::read(self.at("new")).unwrap()[..self.new.len()] == self.new);
    }
}

const ROOM: u64 = 1 << 30;

#[test]
fn by_a_delta_cut_off_after_every_piece() {
    let world = World::new().with_delta();
    let mut all = 0;
    for until in [1, MAKES as u64 + 1, u64::MAX] {
        let (done, fetched) = world.fetch(until, ROOM);
        assert_eq!(done.is_ok(), until == u64::MAX);
        all += fetched;
    }
    world.is_there();
    assert_eq!(all, world.part.deltas[0].download.size, "nothing twice");
    assert_eq!(world.fetch(u64::MAX, ROOM).1, 0, "it is there");
}

#[test]
fn a_frame_is_made_again_of_what_differs_in_it() {
    let world = World::with_frames(|_| {});
    let (done, fetched) = world.fetch(u64::MAX, ROOM);
    done.unwrap();
    world.is_there();
    assert!(fetched < 1000, "{fetched}");
}

#[test]
fn a_frame_that_is_another_one_or_too_large_is_not_made() {
    let lies: [fn(&mut Piece); 5] = [
        |it| it.inside = Some(Inside { reads: REFERENCE, makes: PIECE + 1 }),
        |it| it.inside = Some(Inside { reads: SIZE as u64 + 1, makes: SIZE as u64 + 4 }),
        |it| it.inside = Some(Inside { reads: SIZE as u64, makes: SIZE as u64 + 3 }),
        |it| it.inside = Some(Inside { reads: SIZE as u64, makes: SIZE as u64 + 5 }),
        |it| it.reads -= 1,
    ];
    for lie in lies {
        let world = World::with_frames(lie);
        let (done, fetched) = world.fetch(u64::MAX, ROOM);
        done.unwrap();
        world.is_there();
        assert!(fetched >= world.whole(), "{fetched}");
    }
}

#[test]
fn what_was_claimed_to_be_there_is_looked_at() {
    let world = World::new().with_delta();
    assert!(world.fetch(MAKES as u64 + 1, ROOM).0.is_err());
    let mut there = fs::read(world.at("new")).unwrap();
    there[MAKES + 7] ^= 1;
    fs::write(world.at("new"), there).unwrap();
    world.fetch(u64::MAX, ROOM).0.unwrap();
    world.is_there();
}

#[test]
fn a_changed_piece_is_not_used_and_the_next_way_taken() {
    let world = World::new().with_delta();
    let path = world.at("source/targets/delta");
    let mut delta = fs::read(&path).unwrap();
    let last = delta.len() - 9;
    delta[last] ^= 1;
    fs::write(path, delta).unwrap();
    let (done, fetched) = world.fetch(u64::MAX, ROOM);
    done.unwrap();
    world.is_there();
    assert!(fetched > world.whole());
}

#[test]
fn by_all_of_it_cut_off_and_gone_on_with() {
    let world = World::new();
    assert!(world.fetch(1_500_000, ROOM).0.is_err());
    let (done, fetched) = world.fetch(u64::MAX, ROOM);
    done.unwrap();
    world.is_there();
    // Nothing is remembered of less than four MiB: it begins anew.
    assert!(fetched <= world.whole());
}

#[test]
fn by_all_of_it_without_room_beside_it() {
    let world = World::new();
    world.fetch(u64::MAX, SIZE as u64).0.unwrap();
    world.is_there();
    assert_eq!(fs::metadata(world.at("new")).unwrap().len(), SIZE as u64);
    assert!(world.fetch(u64::MAX, SIZE as u64 - 1).0.is_err());
}

#[test]
fn a_changed_byte_is_refused() {
    for room in [ROOM, SIZE as u64] {
        let world = World::new();
        let path = world.at("source/targets/whole");
        let mut whole = fs::read(&path).unwrap();
        let middle = whole.len() / 2;
        whole[middle] ^= 1;
        fs::write(path, whole).unwrap();
        let error = world.fetch(u64::MAX, room).0.unwrap_err();
        assert!(
            error.is::<Bad>() || format!("{error:#}").contains("not what was signed"),
            "{error:#}"
        );
    }
}

#[test]
fn what_came_wrong_is_fetched_again() {
    let world = World::new();
    let path = world.at("source/targets/whole");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, noise(7, whole.len())).unwrap();
    assert!(world.fetch(u64::MAX, ROOM).0.is_err());
    fs::write(&path, whole).unwrap();
    world.fetch(u64::MAX, ROOM).0.unwrap();
    world.is_there();
}

#[test]
fn an_archive_that_says_it_is_longer_than_it_is_leads_nowhere() {
    let world = World::new().with_chunks();
    let path = world.at("source/targets/chunks");
    let mut chunks = fs::read(&path).unwrap();
    // Behind the magic bytes: how long the dictionary is.
    chunks[6..14].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    fs::write(path, chunks).unwrap();
    world.fetch(u64::MAX, ROOM).0.unwrap();
    world.is_there();
}

#[test]
fn by_chunks_cut_off_and_gone_on_with() {
    let world = World::new().with_chunks();
    // Cut off while the old release is read, and while chunks come.
    for until in [1, SIZE as u64 - 1] {
        assert!(world.fetch(until, ROOM).0.is_err());
    }
    let (done, fetched) = world.fetch(u64::MAX, ROOM);
    done.unwrap();
    world.is_there();
    assert!(fetched < world.whole() / 3, "{fetched} of {}", world.whole());
}

#[test]
fn changed_chunks_are_not_used() {
    let world = World::new().with_chunks();
    let path = world.at("source/targets/chunks");
    let mut chunks = fs::read(&path).unwrap();
    let end = chunks.len() - SIZE / 2;
    chunks[end..].iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(path, chunks).unwrap();
    world.fetch(u64::MAX, ROOM).0.unwrap();
    world.is_there();
}
