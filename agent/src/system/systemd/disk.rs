//! The files of services, and the marks: reading all of them, changing one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use trilith_core::services::{
    Capacity, Desired, File, Folder, Found, Marks, OnChange, Owner, Template, UnitName, UnitWish,
    owned,
};

use super::SystemdError;
use super::checker;
use crate::system::files::{self, ANYTHING, FileError, Ids, Staged};

/// Everything about files that a plan is made of.
pub(super) struct Disk {
    pub(super) instances: BTreeMap<Template, BTreeSet<String>>,
    pub(super) wishes: BTreeMap<UnitName, UnitWish>,
    pub(super) files: BTreeMap<String, Found>,
    pub(super) folders: BTreeMap<String, Folder>,
    pub(super) strays: BTreeSet<String>,
    pub(super) pending: BTreeMap<UnitName, OnChange>,
    pub(super) exists: BTreeSet<String>,
    pub(super) capacity: Capacity,
}

/// Looks at all of it.
pub(super) fn look(desired: &Desired) -> Result<Disk, FileError> {
    let instances = instances(desired)?;
    let capacity = capacity();
    let wishes = desired.wishes(&instances, &capacity);
    let awaited = wishes.values().flat_map(|wish| wish.needs.iter().chain(&wish.permits));
    let exists = awaited.filter(|path| Path::new(path).exists()).cloned().collect();
    Ok(Disk {
        wishes,
        files: found(desired)?,
        folders: folders(desired)?,
        strays: strays()?,
        pending: pending()?,
        exists,
        capacity,
        instances,
    })
}

/// The paths whose changes are worth a look.
pub(super) fn paths(desired: &Desired, wishes: &BTreeMap<UnitName, UnitWish>) -> BTreeSet<PathBuf> {
    let anything = |folder: &str| Path::new(folder).join(ANYTHING);
    let awaited = wishes.values().flat_map(|wish| wish.needs.iter().chain(&wish.permits));
    let files = desired.files.keys().chain(awaited).map(PathBuf::from);
    let instances = desired.instances.values().map(|instances| anything(&instances.folder));
    let owned = owned::FILES.iter().map(PathBuf::from);
    let folders = owned::FOLDERS.iter().map(|folder| anything(folder));
    files.chain(instances).chain(owned).chain(folders).collect()
}

fn instances(desired: &Desired) -> Result<BTreeMap<Template, BTreeSet<String>>, FileError> {
    let mut found = BTreeMap::new();
    for (template, instances) in &desired.instances {
        let listed = files::list(Path::new(&instances.folder))?;
        let folders = listed.iter().filter(|(_, is_folder)| *is_folder);
        let names = folders.filter_map(|(name, _)| name.strip_prefix(&instances.prefix));
        found.insert(template.clone(), names.map(str::to_owned).collect());
    }
    Ok(found)
}

/// What the host has. Where the kernel does not tell, nothing is known, and nothing is limited by it.
fn capacity() -> Capacity {
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    Capacity {
        cpus: parse_cpus(&text("/sys/devices/system/cpu/online")),
        memory: parse_memory(&text("/proc/meminfo")),
    }
}

/// A list of CPUs such as `0-3,8` (cpuset(7), "List format").
fn parse_cpus(text: &str) -> BTreeSet<u16> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// `MemTotal` in bytes, 0 if there is none (`/proc/meminfo`).
fn parse_memory(text: &str) -> u64 {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|total| total.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}

fn owner(ids: Ids) -> Owner {
    let (user, group) = ids.names();
    Owner::new(user, group)
}

fn found(desired: &Desired) -> Result<BTreeMap<String, Found>, FileError> {
    let mut found = BTreeMap::new();
    for path in desired.files.keys().map(String::as_str).chain(owned::FILES.iter().copied()) {
        if let Some(file) = files::look(Path::new(path))? {
            let file = Found { content: file.text, mode: file.mode, owner: owner(file.owner) };
            found.insert(path.to_owned(), file);
        }
    }
    Ok(found)
}

fn folders(desired: &Desired) -> Result<BTreeMap<String, Folder>, FileError> {
    let mut found = BTreeMap::new();
    for path in desired.folders().into_keys() {
        if let Some((mode, ids)) = files::look_at_folder(Path::new(&path))? {
            found.insert(path, Folder { mode, owner: owner(ids) });
        }
    }
    Ok(found)
}

fn strays() -> Result<BTreeSet<String>, FileError> {
    let mut found = BTreeSet::new();
    for folder in owned::FOLDERS {
        let files = files::list(Path::new(folder))?;
        let files = files.into_iter().filter(|(_, is_folder)| !is_folder);
        found.extend(files.map(|(name, _)| format!("{folder}/{name}")));
    }
    Ok(found)
}

/// A mark that says nothing we know is of another version of the agent: restarting is always enough.
fn pending() -> Result<BTreeMap<UnitName, OnChange>, FileError> {
    let mut marks = BTreeMap::new();
    for (name, _) in files::list(Path::new(owned::PENDING))? {
        let Ok(unit) = UnitName::try_from(name) else { continue };
        let Some(mark) = files::look(&mark_of(&unit))? else { continue };
        let reload = mark.text.trim() == OnChange::Reload.to_string();
        marks.insert(unit, if reload { OnChange::Reload } else { OnChange::Restart });
    }
    Ok(marks)
}

fn mark_of(unit: &UnitName) -> PathBuf {
    Path::new(owned::PENDING).join(unit.as_str())
}

fn mark(marks: &Marks) -> Result<(), FileError> {
    for (unit, change) in marks {
        Staged::new(&mark_of(unit), &format!("{change}\n"), 0o600, Ids::us())?.replace()?;
    }
    Ok(())
}

/// Removes a unit's mark.
pub(super) fn unmark(unit: &UnitName) -> Result<(), FileError> {
    files::remove(&mark_of(unit))
}

/// Removes a file, once the units that have read it are marked.
pub(super) fn remove(path: &str, marks: &Marks) -> Result<(), FileError> {
    mark(marks)?;
    files::remove(Path::new(path))
}

/// Makes a folder or mends it.
pub(super) fn make_folder(path: &str, folder: &Folder) -> Result<(), FileError> {
    let owner = Ids::named(&folder.owner.user, &folder.owner.group)?;
    files::make_folder(Path::new(path), folder.mode, owner)
}

/// Writes a file beside the old one, asks its checker, marks the units that have read the old one, and only then
/// lets it take the old one's place.
pub(super) async fn write(path: &str, file: &File, marks: &Marks) -> Result<(), SystemdError> {
    let owner = Ids::named(&file.owner.user, &file.owner.group)?;
    let staged = Staged::new(Path::new(path), &file.content, file.mode, owner)?;
    if let Some(checker) = file.checker {
        let checked = checker::check(checker, staged.beside(), &file.content).await;
        checked.map_err(|source| SystemdError::Refused { path: path.into(), source })?;
    }
    mark(marks)?;
    Ok(staged.replace()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_of_the_host() {
        assert_eq!(parse_cpus("0-2,8\n"), BTreeSet::from([0, 1, 2, 8]));
        assert_eq!(parse_cpus("0\n"), BTreeSet::from([0]));
        assert_eq!(parse_cpus(""), BTreeSet::new());
        let text = "MemTotal:       24614408 kB\nMemFree:        19791100 kB\n";
        assert_eq!(parse_memory(text), 24_614_408 << 10);
        assert_eq!(parse_memory("MemFree: 1 kB\n"), 0);
    }
}
