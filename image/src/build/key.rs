//! Keys of what is kept between builds: a digest of everything that a thing is made from.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

/// A digest under construction. Every part is written with its length, so that no two lists of parts
/// give the same bytes.
pub(crate) struct Key(Sha256);

impl Key {
    /// A key for one kind of thing. `kind` carries a number that goes up when the code that makes the
    /// thing changes in a way that shows in it.
    pub(crate) fn new(kind: &str) -> Self {
        Self(Sha256::new()).text(kind)
    }

    /// Adds a text.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.part(text.as_bytes());
        self
    }

    /// Adds a file, a symbolic link, or a folder with everything below it: names, modes, contents.
    /// What does not exist counts as such.
    ///
    /// # Errors
    /// Something cannot be read.
    pub(crate) fn tree(mut self, path: &Path) -> Result<Self> {
        self.add(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self)
    }

    /// The key: 16 hexadecimal digits, enough to tell the builds of one machine apart.
    pub(crate) fn finish(self) -> String {
        let mut hex = hex(&self.0.finalize());
        hex.truncate(16);
        hex
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn add(&mut self, path: &Path) -> std::io::Result<()> {
        let Ok(meta) = path.symlink_metadata() else {
            self.part(b"absent");
            return Ok(());
        };
        if meta.is_symlink() {
            self.part(b"link");
            self.part(path.read_link()?.as_os_str().as_bytes());
        } else if meta.is_dir() {
            self.part(b"folder");
            let mut names = fs::read_dir(path)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<Result<Vec<_>, _>>()?;
            names.sort();
            self.part(&(names.len() as u64).to_le_bytes());
            for name in names {
                self.part(name.as_bytes());
                self.add(&path.join(name))?;
            }
        } else {
            self.part(if meta.permissions().mode() & 0o111 == 0 { b"file" } else { b"program" });
            self.part(&fs::read(path)?);
        }
        Ok(())
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let key =
            |parts: &[&str]| parts.iter().fold(Key::new("k"), |key, part| key.text(part)).finish();
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
        assert_eq!(key(&[]).len(), 16);
    }

    #[test]
    fn a_tree_changes_with_names_contents_and_modes() {
        let folder = std::env::temp_dir().join(format!("trilith-key-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = || Key::new("k").tree(&folder).unwrap().finish();
        let empty = key();
        fs::write(folder.join("a"), "1").unwrap();
        let one = key();
        fs::set_permissions(folder.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        let program = key();
        fs::rename(folder.join("a"), folder.join("b")).unwrap();
        let renamed = key();
        fs::remove_dir_all(&folder).unwrap();
        let keys = [empty, one, program, renamed, key()];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
