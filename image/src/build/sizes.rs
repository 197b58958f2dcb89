//! What the root is made of: the files of each package that are still there after pruning.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context, Result};

/// The `count` largest packages of a layer with their sizes in bytes, largest first.
pub(crate) fn largest(root: &Path, count: usize) -> Result<Vec<(String, u64)>> {
    let folder = root.join("var/lib/dpkg/info");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut sizes = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "list") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = name.split(':').next().unwrap_or_default().to_owned();
        sizes.push((name, size(root, &fs::read_to_string(&path)?)));
    }
    sizes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sizes.truncate(count);
    Ok(sizes)
}

/// The bytes in the files that a package's list names; a file with two names counts once.
fn size(root: &Path, list: &str) -> u64 {
    let mut seen = HashSet::new();
    // Kernel modules are packed as `.ko.xz` and lie in the root unpacked.
    let names = list.lines().map(|line| line.strip_suffix(".xz").unwrap_or(line));
    let files = names.filter_map(|line| {
        root.join(line.trim_start_matches('/'))
            .symlink_metadata()
            .ok()
            .filter(fs::Metadata::is_file)
    });
    files.filter(|meta| seen.insert(meta.ino())).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_or_a_folder_or_the_same_file_counts_nothing() {
        let root = std::env::temp_dir().join(format!("trilith-sizes-{}", std::process::id()));
        fs::create_dir_all(root.join("usr")).unwrap();
        fs::write(root.join("usr/a"), "12345").unwrap();
        fs::hard_link(root.join("usr/a"), root.join("usr/b")).unwrap();
        let sum = size(&root, "/.\n/usr\n/usr/a\n/usr/b\n/usr/gone\n");
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(sum, 5);
    }
}
