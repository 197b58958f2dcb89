//! What stands for two slots in a container, which has neither a disk with them nor firmware: a folder for the ESP, a
//! program for the updater, and this for the boot loader. "Another release" is another root, or the same one under another
//! name. The gate is the real one: it judges, blesses by a new name in that folder, and remembers what has failed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use trilith_core::boot::{Name, Tries};
use trilith_core::version::Version;

use super::{Lab, VAR, node_folder, over_folder};

/// Where the programs lie in the node.
const PROGRAMS: &str = "usr/lib/trilith/lab";
/// What is kept, on the node's /var.
const KEPT: &str = "lib/trilith-lab";
/// Systems on the folder that stands for the ESP.
const SYSTEMS: &str = "EFI/Linux";
/// The node's release, in its folder of the lab.
const RELEASE: &str = "release";

/// In the place of the updater.
const UPDATER: &str = include_str!("slots/updater");
/// Calls the gate with the folder.
const GATE: &str = include_str!("slots/gate");

/// Lays the programs, and the settings of the units that call them.
pub(super) fn lay(layer: &Path) -> Result<()> {
    let programs = layer.join(PROGRAMS);
    fs::create_dir_all(&programs)?;
    for (name, text) in [("updater", UPDATER), ("gate", GATE)] {
        let path = programs.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    for (unit, conditions) in [("update", ""), ("gate", "[Unit]\nConditionPathExists=\n")] {
        let folder = layer.join(format!("etc/systemd/system/trilith-{unit}.service.d"));
        fs::create_dir_all(&folder)?;
        let program = if unit == "update" { "updater" } else { unit };
        let text = format!(
            "{conditions}[Service]\nExecStart=\nExecStart=/{PROGRAMS}/{program}\nReadWritePaths=/var/{KEPT}\n"
        );
        fs::write(folder.join("lab.conf"), text)?;
    }
    // It is told to the gate only where there is a disk with slots.
    let booted = layer.join("etc/systemd/system/trilith-booted.service.d");
    fs::create_dir_all(&booted)?;
    Ok(fs::write(booted.join("lab.conf"), "[Unit]\nConditionPathExists=\n")?)
}

/// The release that a node's root is called by; `None`: the image's own name.
pub(super) fn release(here: &Path) -> Option<String> {
    fs::read_to_string(here.join(RELEASE)).ok()
}

impl Lab {
    /// Makes the folder of a node that is off, with the release that it has from its installation.
    pub fn install(&self, name: &str, version: &Version) -> Result<()> {
        let esp = self.kept(name)?.join("esp");
        for folder in [SYSTEMS, "trilith/staged"] {
            fs::create_dir_all(esp.join(folder))?;
        }
        fs::write(esp.join(SYSTEMS).join(format!("trilith_{version}.efi")), "")?;
        Ok(())
    }

    /// What a boot loader does with a node that is off: it takes the newest system that is proven or has tries left, uses
    /// one of these up, and starts it. Gives the release.
    pub fn boot_newest(&self, name: &str) -> Result<Version> {
        let (kept, here) = (self.kept(name)?, node_folder(&self.folder, name));
        let folder = kept.join("esp").join(SYSTEMS);
        let best = self.next_boot(name)?;
        let version = best.version().context("a system without a version")?;
        let mut tried = best.clone();
        tried.tries =
            best.tries.map(|it| Tries { left: it.left.saturating_sub(1), done: it.done + 1 });
        fs::rename(folder.join(best.to_string()), folder.join(tried.to_string()))?;
        let counted = tried.tries.map(|_| format!("{SYSTEMS}/{tried}")).unwrap_or_default();
        fs::write(kept.join("counted"), counted)?;
        fs::write(here.join(RELEASE), version.as_str())?;
        self.start(name)?;
        Ok(version)
    }

    /// Lays a file over the root of a release, for nodes that start it from now on.
    pub fn change(&self, version: &Version, path: &str, text: &str) -> Result<()> {
        let path = over_folder(&self.folder, version.as_str()).join(path);
        fs::create_dir_all(path.parent().context("a file in no folder")?)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The release that a node would start now, and with what tries.
    pub fn next_boot(&self, name: &str) -> Result<Name> {
        let best = systems(&self.kept(name)?.join("esp").join(SYSTEMS))?.into_iter();
        best.filter(|it| !it.is_bad())
            .max_by_key(Name::version)
            .context("no system is left on the ESP")
    }

    fn kept(&self, name: &str) -> Result<PathBuf> {
        self.plan.node(name)?;
        Ok(node_folder(&self.folder, name).join(VAR).join(KEPT))
    }
}

fn systems(folder: &Path) -> Result<Vec<Name>> {
    let entries = fs::read_dir(folder);
    let entries = entries.with_context(|| format!("cannot read {}", folder.display()))?;
    let name = |entry: fs::DirEntry| Name::of(entry.file_name().to_str()?);
    Ok(entries.filter_map(Result::ok).filter_map(name).collect())
}
