//! The bundles of a medium: a tar file on a partition of its own.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path};

use anyhow::{Context as _, Result};
use tar::Archive;

/// The most that is read of one file: a bundle of a thousand nodes has half a megabyte.
const LARGEST: u64 = 16 << 20;

/// Takes the files of an archive into a folder that only root reads. What has no plain name is left out: nothing on a
/// medium decides where a file goes.
pub fn unpack(from: impl Read, folder: &Path) -> Result<usize> {
    let failed = || format!("cannot unpack the medium's bundles into {}", folder.display());
    fs::DirBuilder::new().mode(0o700).recursive(true).create(folder).with_context(failed)?;
    let mut count = 0;
    for entry in Archive::new(from).entries().with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let path = entry.path().with_context(failed)?.into_owned();
        let mut parts = path.components();
        let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else { continue };
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(folder.join(name)).with_context(failed)?;
        std::io::copy(&mut entry.take(LARGEST), &mut file).with_context(failed)?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_of_plain_names_come_out() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: tar::EntryType| {
            let mut header = tar::Header::new_gnu();
            header.set_size(2);
            header.set_mode(0o777);
            header.set_entry_type(kind);
            // As somebody who means harm writes it.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, &b"hi"[..]).unwrap();
        };
        add("1.yaml", tar::EntryType::Regular);
        add("../2.yaml", tar::EntryType::Regular);
        add("/3.yaml", tar::EntryType::Regular);
        add("4.yaml", tar::EntryType::Symlink);
        let bytes = builder.into_inner().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("a/b");
        assert_eq!(unpack(bytes.as_slice(), &inside).unwrap(), 1);
        let names: Vec<_> =
            fs::read_dir(&inside).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["1.yaml"]);
        assert_eq!(fs::read(inside.join("1.yaml")).unwrap(), b"hi");
    }
}
