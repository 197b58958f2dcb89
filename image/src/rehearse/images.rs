//! The root file system of a release: of a build, or of a folder of releases.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use trilith_core::version::Version;

/// A release that is here.
#[derive(Debug, PartialEq)]
pub(super) struct Image {
    pub(super) version: Version,
    /// The root, or the root compressed by zstd.
    root: PathBuf,
}

/// The ends of the names of roots: as `trilith build` leaves it, and as `trilith release` does.
const ENDS: [&str; 2] = ["root", "root.zst"];

impl Image {
    /// By the path of the image or of its root, or by a version that is looked for in these folders.
    pub(super) fn find(told: &str, folders: &[PathBuf]) -> Result<Self> {
        let path = Path::new(told);
        if told.contains('/') || path.extension().is_some_and(|end| end == "raw" || end == "root") {
            return Self::at(path);
        }
        let version: Version = told.parse().with_context(|| {
            format!("{told} is neither a version nor an image (such as target/image/trilith_….raw)")
        })?;
        let found = folders.iter().find_map(|folder| root_in(folder, &version));
        let Some(root) = found else {
            let all: Vec<_> = folders.iter().map(|it| it.display().to_string()).collect();
            if all.is_empty() {
                bail!(
                    "nothing is built here: run it in the checkout, or name a folder by --releases"
                );
            }
            bail!(
                "no release {version} in {}: `trilith build --version {version}` makes one, --releases names a folder of \
                 releases",
                all.join(", ")
            );
        };
        Ok(Self { version, root })
    }

    fn at(path: &Path) -> Result<Self> {
        let root = path.with_extension("root");
        let label = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let version = Version::of_label(label).with_context(|| {
            format!("{} has no name of a release, such as trilith_2026.11.22-0.raw", path.display())
        })?;
        if !root.is_file() {
            bail!("no {}: `trilith build` leaves it beside the image", root.display());
        }
        Ok(Self { version, root })
    }

    /// As the program that does the work takes it. A version has no `=`.
    pub(super) fn word(&self) -> String {
        format!("{}={}", self.version, self.root.display())
    }
}

/// The folders of builds: `image`, `next-image`, and what else is called so.
pub(super) fn builds(target: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(target).into_iter().flatten().filter_map(Result::ok);
    let named = |path: &PathBuf| {
        path.is_dir()
            && path.file_name().is_some_and(|it| it.as_encoded_bytes().ends_with(b"image"))
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(named).collect();
    found.sort();
    found
}

/// The root of this version in a folder of either kind: in one of releases a digest stands before the name.
fn root_in(folder: &Path, version: &Version) -> Option<PathBuf> {
    let names = ENDS.map(|end| format!("{}.{end}", version.label()));
    let plain = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    plain.or_else(|| {
        let entries = fs::read_dir(folder.join("targets")).ok()?.filter_map(Result::ok);
        entries.map(|entry| entry.path()).find(|path| {
            let name =
                path.file_name().and_then(|it| it.to_str()).and_then(|it| it.split_once('.'));
            name.is_some_and(|(_, name)| names.iter().any(|wanted| wanted == name))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        path
    }

    #[test]
    fn a_release_is_found_by_version_in_builds_and_in_folders_of_releases() {
        let folder = tempfile::TempDir::new().unwrap();
        let first = put(folder.path(), "target/image/trilith_1.0-1.root");
        let second = put(folder.path(), "target/next-image/trilith_1.0-1.1.root");
        let third = put(folder.path(), "releases/targets/abc.trilith_1.0-2.root.zst");
        put(folder.path(), "releases/targets/abd.trilith_1.0-2.root.patch");
        let mut folders = builds(&folder.path().join("target"));
        assert_eq!(folders.len(), 2);
        folders.push(folder.path().join("releases"));
        for (version, root) in [("1.0-1", first), ("1.0-1.1", second), ("1.0-2", third)] {
            let image = Image::find(version, &folders).unwrap();
            assert_eq!(image, Image { version: version.parse().unwrap(), root });
        }
        let error = Image::find("1.0-3", &folders).unwrap_err().to_string();
        assert!(error.starts_with("no release 1.0-3 in /"), "{error}");
        assert!(error.contains("target/image, "), "{error}");
    }

    #[test]
    fn a_release_is_found_by_its_image() {
        let folder = tempfile::TempDir::new().unwrap();
        let root = put(folder.path(), "trilith_1.0-1.root");
        for told in [root.clone(), root.with_extension("raw")] {
            let image = Image::find(told.to_str().unwrap(), &[]).unwrap();
            assert_eq!(image.word(), format!("1.0-1={}", root.display()));
        }
        for (told, why) in [
            (folder.path().join("trilith_1.0-2.raw"), "leaves it beside the image"),
            (folder.path().join("other.raw"), "has no name of a release"),
        ] {
            let error = Image::find(told.to_str().unwrap(), &[]).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let error = Image::find("what is this", &[]).unwrap_err().to_string();
        assert!(error.contains("neither a version nor an image"), "{error}");
    }
}
