//! Checks of the package layer: nothing that ships lacks a library or its firmware, and every user has a
//! number that we gave it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::key::Key;
use super::libraries;
use super::packages::Packages;
use super::place::{self, Place};
use super::progress::Progress;
use super::tools::Tools;
use crate::exec;
use crate::firmware;

/// Runs all checks on the layer with the agent over it, unless the same ones passed before.
pub(crate) fn run(
    place: &Place,
    progress: &Progress,
    tools: &Tools,
    packages: &Packages,
    agent: &Path,
) -> Result<()> {
    let key = Key::new("checks 2").text(&packages.key).tree(agent)?;
    let waivers = [place.overlay("firmware-waivers"), place.overlay("library-waivers")];
    let key = packages.key_on_top(waivers.iter().try_fold(key, |key, path| key.tree(path))?);
    let passed = place.keyed("checked", &key);
    if passed.exists() {
        progress.kept("checks");
        return Ok(());
    }
    progress.step("checks: firmware, libraries, users");
    let modules = Module::all(tools, packages)?;
    let mut faults = missing_firmware(place, packages, &modules)?;
    faults.extend(broken_modules(&modules));
    faults.extend(missing_libraries(place, packages, agent)?);
    faults.extend(unnumbered_users(packages)?);
    if !faults.is_empty() {
        bail!("the image would not be whole:\n  {}", faults.join("\n  "));
    }
    place::write(&passed, "")?;
    place.forget_others("checked", &key)
}

/// What a kernel module says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Module {
    /// Its name, with underscores as the kernel writes it.
    name: String,
    /// The firmware that it may ask for.
    firmware: Vec<String>,
    /// The modules whose symbols it uses.
    depends: Vec<String>,
}

impl Module {
    fn all(tools: &Tools, packages: &Packages) -> Result<Vec<Self>> {
        let mut command = tools.command("modinfo");
        command.arg("-0").args(kernel_modules(&packages.root)?);
        Ok(parse_modinfo(&exec::output(&mut command)?))
    }
}

/// Reads what `modinfo -0` prints of many modules: fields end in NUL, each module begins with its file
/// name, whose field has a colon where all others have a sign of equality.
fn parse_modinfo(text: &str) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for (key, value) in text.split('\0').filter_map(|field| field.split_once([':', '='])) {
        if key == "filename" {
            let file = value.trim().rsplit('/').next().unwrap_or_default();
            let name = file.split('.').next().unwrap_or_default().replace('-', "_");
            modules.push(Module { name, ..Module::default() });
        }
        let Some(module) = modules.last_mut() else { continue };
        match key {
            "firmware" => module.firmware.push(value.to_owned()),
            "depends" => module.depends.extend(
                value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")),
            ),
            _ => {}
        }
    }
    modules
}

/// Modules that cannot be loaded because one that they depend on was dropped: it would show on the node,
/// in the hour when it is needed.
fn broken_modules(modules: &[Module]) -> Vec<String> {
    let names: BTreeSet<_> = modules.iter().map(|module| &module.name).collect();
    let lost = modules.iter().flat_map(|module| {
        let lost = module.depends.iter().filter(|name| !names.contains(name));
        lost.map(|name| (name, &module.name))
    });
    lost.map(|(name, user)| format!("module {user} needs module {name}, which drop-modules drops"))
        .collect()
}

fn missing_firmware(place: &Place, packages: &Packages, modules: &[Module]) -> Result<Vec<String>> {
    let wanted: Vec<_> = modules
        .iter()
        .flat_map(|module| module.firmware.iter().map(|f| (module.name.clone(), f.clone())))
        .collect();
    let files = files_below(&packages.root.join("usr/lib/firmware"))?;
    let waivers = fs::read_to_string(place.overlay("firmware-waivers")).unwrap_or_default();
    let report = firmware::check(&wanted, &files, &waivers).map_err(anyhow::Error::msg)?;
    let missing = report.missing.iter().map(|m| {
        format!("firmware {} is missing, asked for by {}", m.firmware, m.modules.join(", "))
    });
    let unused = report
        .unused_waivers
        .iter()
        .map(|line| format!("overlays/firmware-waivers: nothing needs this line any more: {line}"));
    Ok(missing.chain(unused).collect())
}

fn kernel_modules(root: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join("usr/lib/modules");
    let modules: Vec<_> = files_below(&folder)?
        .iter()
        .map(|file| folder.join(file))
        .filter(|path| path.extension().is_some_and(|extension| extension == "ko"))
        .collect();
    if modules.is_empty() {
        bail!("the layer has no kernel modules");
    }
    Ok(modules)
}

/// All files and links below a folder, as paths relative to it.
pub(crate) fn files_below(folder: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(here) = open.pop() {
        for entry in
            fs::read_dir(&here).with_context(|| format!("cannot read {}", here.display()))?
        {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else if let Some(name) = path.strip_prefix(folder).ok().and_then(Path::to_str) {
                found.insert(name.to_owned());
            }
        }
    }
    Ok(found)
}

fn missing_libraries(place: &Place, packages: &Packages, agent: &Path) -> Result<Vec<String>> {
    let waivers = fs::read_to_string(place.overlay("library-waivers")).unwrap_or_default();
    libraries::check(&[&packages.root, agent], &waivers)
}

/// Users and groups whose numbers come from a package's script: the next build could give others.
fn unnumbered_users(packages: &Packages) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (file, what) in [("passwd", "user"), ("group", "group")] {
        let read = |root: &Path| {
            let path = root.join("etc").join(file);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let ours = numbers(&read(&packages.skeleton)?);
        for (name, number) in numbers(&read(&packages.root)?) {
            match ours.get(&name) {
                Some(ours) if *ours == number => {}
                Some(ours) => faults.push(format!("{what} {name} has {number} instead of {ours}")),
                None => faults.push(format!(
                    "{what} {name} ({number}) is not in overlays/packages/users or the site's sysusers.d"
                )),
            }
        }
    }
    Ok(faults)
}

/// Names and numbers in a passwd or group file.
fn numbers(text: &str) -> BTreeMap<String, String> {
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields
        .filter_map(|fields| match fields[..] {
            [name, _, number, ..] => Some((name.to_owned(), number.to_owned())),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modinfo_is_read_per_module() {
        let text = "filename:       /m/a.ko\0firmware=x/y.bin\0alias=pci:v1*\0depends=c-d,b\0\
                    filename:       /m/b.ko\0depends=\0filename:       /m/c-d.ko\0firmware=z\0";
        let modules = parse_modinfo(text);
        let names: Vec<_> = modules.iter().map(|module| &*module.name).collect();
        assert_eq!(names, ["a", "b", "c_d"]);
        assert_eq!(modules[0].firmware, ["x/y.bin"]);
        assert_eq!(modules[0].depends, ["c_d", "b"]);
        assert_eq!(broken_modules(&modules), [""; 0]);
        assert_eq!(broken_modules(&modules[..2]).len(), 1);
    }

    #[test]
    fn numbers_of_users_and_groups() {
        let found = numbers("root:x:0:0:root:/root:/bin/bash\nnonsense\nkvm:x:404:\n");
        assert_eq!(found.into_iter().collect::<Vec<_>>().len(), 2);
    }
}
