//! Which packages change between two releases, by the lists that lie beside them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use trilith_core::packages::Packages;
use trilith_core::version::Version;

/// In lines for people: what matters for security first.
pub(super) fn changes(folder: &Path, from: &Version, to: &Version) -> Result<String> {
    let (before, after) = (read(folder, from)?, read(folder, to)?);
    let changes = before.changes(&after);
    let relevant = changes.iter().filter(|change| change.relevant.is_some()).count();
    let mut text = format!(
        "from {from} to {to}: {} packages change, {relevant} CVE-relevant\n",
        changes.len()
    );
    for change in &changes {
        writeln!(text, "   {change}")?;
    }
    Ok(text)
}

/// The list of a release: in a folder that `trilith release` has made, where a digest stands before the name, or in one
/// that `trilith build` has made. It is only looked at; what nodes fetch, they check.
fn read(folder: &Path, version: &Version) -> Result<Packages> {
    let path = find(folder, &format!("{}.packages.txt", version.label()))?;
    let text = fs::read_to_string(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    Packages::parse(&text).with_context(|| path.display().to_string())
}

fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let plain = folder.join(name);
    if plain.exists() {
        return Ok(plain);
    }
    let targets = folder.join("targets");
    let entries = fs::read_dir(&targets);
    let entries = entries.with_context(|| format!("{} has no {name}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let found = path.file_name().and_then(|it| it.to_str()).and_then(|it| it.split_once('.'));
        if found.is_some_and(|(_, rest)| rest == name) {
            return Ok(path);
        }
    }
    bail!("{} has no {name}", targets.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_found_in_both_kinds_of_folders() {
        let folder = tempfile::TempDir::new().unwrap();
        let targets = folder.path().join("targets");
        fs::create_dir(&targets).unwrap();
        fs::write(targets.join("abc.trilith_1.packages.txt"), "openssl 3.5.1-1 amd64\n").unwrap();
        fs::write(folder.path().join("trilith_2.packages.txt"), "openssl 3.5.4-1 amd64\n").unwrap();
        let version = |text: &str| text.parse::<Version>().unwrap();
        let text = changes(folder.path(), &version("1"), &version("2")).unwrap();
        assert_eq!(
            text,
            "from 1 to 2: 1 packages change, 1 CVE-relevant\n   openssl 3.5.1-1 -> 3.5.4-1 [CVE-relevant: openssl]\n"
        );
        let error = changes(folder.path(), &version("1"), &version("3")).unwrap_err();
        assert!(error.to_string().ends_with("has no trilith_3.packages.txt"), "{error}");
    }
}
