//! What a boot loader would start, whenever the power fails. `ci/vm` runs these on a FAT file system as well: `TMPDIR` says
//! where.

use std::collections::BTreeMap;

use tempfile::TempDir;
use trilith_core::update::systems::first;

use super::*;
use crate::esp::tests::{put, uki};

/// An ESP with these systems, by their names without folder and `.efi`.
struct Disk(TempDir);

impl Disk {
    fn with(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let place = if name.ends_with('s') { STAGED } else { SYSTEMS };
            let name = name.trim_end_matches('s');
            let version = name.split('+').next().unwrap();
            put(&folder, &format!("{place}/trilith_{name}.efi"), &uki(&line(version)));
        }
        Self(folder)
    }

    fn esp(&self) -> &Path {
        self.0.path()
    }

    fn sha256(&self, version: &str) -> Sha256 {
        let root = root(version);
        let all = systems(self.esp()).unwrap();
        all.into_iter().find(|it| it.root.as_ref() == Some(&root)).unwrap().sha256
    }

    /// What the boot loader makes of it: all that it could start, in its order.
    fn boots(&self) -> Vec<String> {
        let all = systems(self.esp()).unwrap().into_iter().filter(|it| it.place == Place::Boot);
        let mut all: Vec<_> = all
            .map(|it| {
                let name = Name::of(&it.file).unwrap();
                // The version is in the system itself; here the root says which it is.
                let version: Version = name.version().unwrap();
                assert_eq!(it.root, Some(root(version.as_str())), "{} is whole", it.file);
                (version, name.tries, it.file)
            })
            .collect();
        all.sort_by(|a, b| first((&a.0, a.1), (&b.0, b.1)));
        let mut count = BTreeMap::new();
        for it in &all {
            *count.entry(it.0.as_str()).or_insert(0) += 1;
        }
        assert!(count.values().all(|count| *count == 1), "one file for each release: {all:?}");
        all.into_iter().map(|(_, _, file)| file[8..file.len() - 4].to_owned()).collect()
    }

    /// What boots after none, one, … and all of the operations.
    fn after_each(&self, ops: &[Op]) -> Vec<String> {
        let mut seen = vec![self.boots().join(" ")];
        for op in ops {
            carry_out(std::slice::from_ref(op)).unwrap();
            seen.push(self.boots().join(" "));
        }
        seen
    }
}

fn line(version: &str) -> String {
    format!("ro roothash={}", root(version))
}

fn root(version: &str) -> RootHash {
    let digit = version.as_bytes()[0] as char;
    RootHash::try_from(digit.to_string().repeat(64)).unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

#[test]
fn staging_changes_nothing_of_what_boots() {
    let disk = Disk::with(&["1"]);
    let new = disk.esp().join("new");
    fs::write(&new, uki(&line("2"))).unwrap();
    let to = disk.esp().join(STAGED).join("trilith_2.efi");
    let ops = [Op::Copy { from: new.clone(), to: to.clone() }, Op::Name(to)];
    assert_eq!(disk.after_each(&ops), ["1", "1", "1"]);
    stage(disk.esp(), &version("2"), &new).unwrap();
    let staged: Vec<_> = systems(disk.esp()).unwrap().into_iter().map(|it| it.place).collect();
    assert_eq!(staged, [Place::Boot, Place::Staged]);
}

#[test]
fn an_activation_has_the_new_one_whole_or_not_at_all() {
    let disk = Disk::with(&["1", "2s"]);
    let ops = activate(disk.esp(), &version("2"), &disk.sha256("2")).unwrap();
    assert_eq!(disk.after_each(&ops), ["1", "1", "2+3 1", "2+3 1"]);
    assert!(!disk.esp().join(STAGED).join("trilith_2.efi").exists());
    // Begun again after it was cut anywhere, it ends the same.
    let again = activate(disk.esp(), &version("2"), &disk.sha256("2")).unwrap();
    assert_eq!(again, []);
}

/// Wherever it is cut: the next pass makes a plan from what it finds.
#[test]
fn an_activation_that_was_cut_is_ended_by_the_next() {
    for cut in 0..3 {
        let disk = Disk::with(&["1", "2s"]);
        let sha256 = disk.sha256("2");
        let ops = activate(disk.esp(), &version("2"), &sha256).unwrap();
        carry_out(&ops[..cut]).unwrap();
        let ops = activate(disk.esp(), &version("2"), &sha256).unwrap();
        carry_out(&ops).unwrap();
        assert_eq!(disk.boots(), ["2+3", "1"], "cut after {cut}");
    }
}

#[test]
fn one_that_failed_is_tried_anew() {
    let disk = Disk::with(&["1", "2+0-3"]);
    assert_eq!(disk.boots(), ["1", "2+0-3"]);
    let ops = activate(disk.esp(), &version("2"), &disk.sha256("2")).unwrap();
    assert_eq!(disk.after_each(&ops), ["1 2+0-3", "2+3 1"]);
}

/// The newer one must not win while the older one is tried, and is what is left if that fails.
#[test]
fn back_to_the_older_one() {
    let disk = Disk::with(&["1", "2"]);
    let ops = activate(disk.esp(), &version("1"), &disk.sha256("1")).unwrap();
    assert_eq!(disk.after_each(&ops), ["2 1", "2 1+3"]);
    let ops = demote(disk.esp(), &version("2"), &root("2")).unwrap();
    assert_eq!(disk.after_each(&ops), ["2 1+3", "1+3 2+0-3"]);
    // As the boot loader renames it.
    let file = |name: &str| disk.esp().join(SYSTEMS).join(format!("trilith_{name}.efi"));
    fs::rename(file("1+3"), file("1+2-1")).unwrap();
    crate::trial::bless(disk.esp(), "EFI/Linux/trilith_1+2-1.efi").unwrap();
    assert_eq!(disk.boots(), ["1", "2+0-3"]);
    fs::rename(file("1"), file("1+0-3")).unwrap();
    assert_eq!(disk.boots(), ["2+0-3", "1+0-3"]);
}

#[test]
fn what_is_not_staged_is_not_activated() {
    let disk = Disk::with(&["1"]);
    let other = Disk::with(&["2s"]).sha256("2");
    let error = activate(disk.esp(), &version("2"), &other).unwrap_err();
    assert_eq!(error.to_string(), "2 is not staged");
}

#[test]
fn staged_ones_retire_with_their_roots() {
    let disk = Disk::with(&["1", "2s", "3+0-3"]);
    fs::write(disk.esp().join(STAGED).join("trilith_4.part"), b"MZ").unwrap();
    crate::esp::retire(disk.esp(), &[root("1")]).unwrap();
    assert_eq!(disk.boots(), ["1"]);
    assert_eq!(files(&disk.esp().join(STAGED)).unwrap(), Vec::<PathBuf>::new());
}
