//! UKIs taken apart and put together again: a release that is broken in one thing alone, whose root and hash tree are those
//! of the release that is not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use object::read::pe::PeFile64;
use object::{Object as _, ObjectSection as _};

use crate::command::run;
use crate::machine::in_tools;

/// The stub that the UKI of the image has as well.
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// Each part that a UKI has, and how ukify(1) is told of it.
const PARTS: [(&str, &str); 5] = [
    (".linux", "--linux="),
    (".initrd", "--initrd="),
    (".ucode", "--microcode="),
    (".osrel", "--os-release=@"),
    (".cmdline", "--cmdline=@"),
];

/// What is in a UKI.
#[derive(Debug, Clone)]
pub struct Uki {
    sections: BTreeMap<String, Vec<u8>>,
    /// What is in one more initrd, by the paths.
    more: Vec<(String, Entry)>,
}

/// Something in an initrd.
#[derive(Debug, Clone)]
enum Entry {
    /// A file, with its mode.
    File(u32, Vec<u8>),
    /// A symbolic link to this.
    Link(String),
}

impl Uki {
    /// Takes one apart.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let file = PeFile64::parse(bytes).context("this is no UKI")?;
        let mut sections = BTreeMap::new();
        for section in file.sections() {
            sections.insert(section.name()?.to_owned(), section.data()?.to_vec());
        }
        Ok(Self { sections, more: Vec::new() })
    }

    /// The kernel's command line.
    pub fn command_line(&self) -> Result<String> {
        let text = self.sections.get(".cmdline").context("a UKI without a command line")?;
        Ok(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    }

    /// Another command line.
    pub fn set_command_line(&mut self, text: &str) {
        self.sections.insert(".cmdline".into(), text.into());
    }

    /// A file that the initrd has as well, or in place of its own.
    pub fn add_to_initrd(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.more.push((path.into(), Entry::File(mode, content.into())));
    }

    /// The same for a symbolic link.
    pub fn link_in_initrd(&mut self, path: &str, target: &str) {
        self.more.push((path.into(), Entry::Link(target.into())));
    }

    /// Puts it together, in a folder to work in; it is not signed.
    pub fn build(&self, folder: &Path, name: &str) -> Result<PathBuf> {
        let output = folder.join(name);
        let mut ukify = in_tools("ukify", &[folder])?;
        ukify.arg("build").arg(format!("--stub={STUB}"));
        for (section, option) in PARTS {
            if let Some(content) = self.sections.get(section) {
                let part = folder.join(&section[1..]);
                fs::write(&part, content)?;
                ukify.arg(format!("{option}{}", part.display()));
            }
        }
        if let Some(version) = self.sections.get(".uname") {
            let version = String::from_utf8_lossy(version);
            ukify.arg(format!("--uname={}", version.trim_end_matches('\0')));
        }
        if !self.more.is_empty() {
            ukify.arg(format!("--initrd={}", self.archive(folder)?.display()));
        }
        run(ukify.arg(format!("--output={}", output.display())))?;
        Ok(output)
    }

    /// What more there is, as the kernel unpacks it (cpio).
    fn archive(&self, folder: &Path) -> Result<PathBuf> {
        let tree = folder.join("more");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        for (path, entry) in &self.more {
            let at = tree.join(path.trim_start_matches('/'));
            fs::create_dir_all(at.parent().context("a file without a folder")?)?;
            match entry {
                Entry::File(mode, content) => {
                    fs::write(&at, content)?;
                    fs::set_permissions(&at, fs::Permissions::from_mode(*mode))?;
                }
                Entry::Link(target) => symlink(target, &at)?,
            }
        }
        let archive = folder.join("more.cpio");
        let script = "cd \"$0\" && find . -mindepth 1 | \
                      cpio --quiet --create --format=newc --owner=+0:+0 > \"$1\"";
        run(in_tools("sh", &[folder])?.args(["-c", script]).arg(&tree).arg(&archive))?;
        Ok(archive)
    }
}
