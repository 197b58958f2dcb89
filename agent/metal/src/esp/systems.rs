//! The systems on an ESP while a release becomes the next one: staged where no boot loader looks, activated with its tries,
//! blessed when it has proven itself.
//!
//! Each change is a few operations, of which each is durable before the next begins, and after each of which the boot loader
//! finds a system that starts: a power cut between two leaves a node that boots.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ring::digest::{Context, SHA256};
use trilith_core::boot::{Name, RootHash};
use trilith_core::names::Sha256;
use trilith_core::update::{Place, System};
use trilith_core::version::Version;

use super::{PIECE, SYSTEMS, UNFINISHED, files, give_name, is_same, is_system, root_of, settle};
use super::{shown, write_beside};

/// Where systems are staged.
pub(crate) const STAGED: &str = "trilith/staged";

/// One operation on an ESP, durable when it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Copy a file to a name beside its place that no boot loader takes, and read it back.
    Copy {
        /// The file.
        from: PathBuf,
        /// Its place.
        to: PathBuf,
    },
    /// Give what was copied its name.
    Name(PathBuf),
    /// Call a file something else in its folder.
    Rename {
        /// The file.
        from: PathBuf,
        /// What it is called then.
        to: PathBuf,
    },
    /// Remove a file.
    Remove(PathBuf),
}

/// Every system on an ESP, and every staged one.
///
/// # Errors
/// Reading fails.
pub fn systems(esp: &Path) -> Result<Vec<System>> {
    let mut found = Vec::new();
    for (folder, place) in [(SYSTEMS, Place::Boot), (STAGED, Place::Staged)] {
        let mut all = files(&esp.join(folder))?;
        all.sort();
        for path in all.iter().filter(|path| is_system(path)) {
            let (sha256, size) = digest(path)?;
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let (file, root) = (file.to_owned(), root_of(path));
            found.push(System { file, place, root, sha256, size });
        }
    }
    Ok(found)
}

/// Stages a system: it is on the ESP, and changes nothing of what boots.
///
/// # Errors
/// Writing fails, or what was read back is something else.
pub fn stage(esp: &Path, version: &Version, from: &Path) -> Result<()> {
    let to = esp.join(STAGED).join(Name::proven(version).to_string());
    carry_out(&[Op::Copy { from: from.into(), to: to.clone() }, Op::Name(to)])
}

/// What activates the system that has this digest: under the version's name and with its tries, and under no other.
///
/// # Errors
/// Reading fails, or there is no such system.
pub fn activate(esp: &Path, version: &Version, sha256: &Sha256) -> Result<Vec<Op>> {
    let all = systems(esp)?;
    let ours = |place: Place| all.iter().find(|it| it.place == place && it.sha256 == *sha256);
    let to = esp.join(SYSTEMS).join(Name::fresh(version).to_string());
    let source = ours(Place::Boot).or_else(|| ours(Place::Staged));
    let source = source.with_context(|| format!("{version} is not staged"))?;
    let mut ops = vec![];
    for other in all.iter().filter(|it| it.root == source.root && *it != source) {
        // What has the same root is the same release, and would be started beside it.
        if other.place == Place::Boot {
            ops.push(Op::Remove(path(esp, other)));
        }
    }
    let from = path(esp, source);
    match source.place {
        Place::Boot => {
            if from != to {
                ops.push(Op::Rename { from, to });
            }
            // What was staged to be tried again.
            let twins = all.iter().filter(|it| it.place == Place::Staged && it.sha256 == *sha256);
            ops.extend(twins.map(|it| Op::Remove(path(esp, it))));
        }
        Place::Staged => {
            ops.extend([Op::Copy { from: from.clone(), to: to.clone() }, Op::Name(to)]);
            ops.push(Op::Remove(from));
        }
    }
    Ok(ops)
}

/// What makes the boot loader take the system of this root last.
///
/// # Errors
/// Reading fails, or there is no such system.
pub fn demote(esp: &Path, version: &Version, root: &RootHash) -> Result<Vec<Op>> {
    called(esp, root, &Name::bad(version))
}

/// What leaves one system of this root, under this name.
fn called(esp: &Path, root: &RootHash, name: &Name) -> Result<Vec<Op>> {
    let all = systems(esp)?;
    let is_it = |it: &&System| it.place == Place::Boot && it.root.as_ref() == Some(root);
    let mut of_root: Vec<PathBuf> = all.iter().filter(is_it).map(|it| path(esp, it)).collect();
    let to = esp.join(SYSTEMS).join(name.to_string());
    of_root.sort_by_key(|path| *path != to);
    let mut of_root = of_root.into_iter();
    let kept = of_root.next().with_context(|| format!("no system on the ESP boots {root}"))?;
    let mut ops: Vec<Op> = of_root.map(Op::Remove).collect();
    if kept != to {
        ops.push(Op::Rename { from: kept, to });
    }
    Ok(ops)
}

/// Carries out operations, one after the other.
///
/// # Errors
/// One fails.
pub fn carry_out(ops: &[Op]) -> Result<()> {
    ops.iter().try_for_each(apply)
}

fn apply(op: &Op) -> Result<()> {
    match op {
        Op::Copy { from, to } => {
            let source =
                File::open(from).with_context(|| format!("cannot open {}", shown(from)))?;
            let beside = write_beside(source, to)?;
            ensure!(is_same(from, &beside)?, "{} is not what was written there", shown(&beside));
            Ok(())
        }
        Op::Name(to) => give_name(&to.with_extension(UNFINISHED), to),
        Op::Rename { from, to } => give_name(from, to),
        Op::Remove(path) => {
            fs::remove_file(path).with_context(|| format!("cannot remove {}", shown(path)))?;
            settle(path.parent().context("no folder")?)
        }
    }
}

fn path(esp: &Path, system: &System) -> PathBuf {
    let folder = match system.place {
        Place::Boot => SYSTEMS,
        Place::Staged => STAGED,
    };
    esp.join(folder).join(&system.file)
}

fn digest(path: &Path) -> Result<(Sha256, u64)> {
    let failed = || format!("cannot read {}", shown(path));
    let (mut file, mut context) = (File::open(path).with_context(failed)?, Context::new(&SHA256));
    let (mut piece, mut size) = (vec![0; PIECE], 0);
    loop {
        let length = file.read(&mut piece).with_context(failed)?;
        if length == 0 {
            return Ok((Sha256::try_from(hex(context.finish().as_ref()))?, size));
        }
        context.update(&piece[..length]);
        size += length as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
