//! The package layer: Debian with everything that a node runs, pruned, as a folder that the image is
//! laid over. Made once for a list of packages; neither versions nor commits are in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::key::Key;
use super::mkosi;
use super::place::{self, Place};
use super::progress::Progress;
use super::site::Site;
use super::sources;
use super::tools::Tools;
use crate::exec;

/// The package layer.
pub(crate) struct Packages {
    /// Its root folder.
    pub(crate) root: PathBuf,
    /// The users and groups that were there first; the initrd has the same.
    pub(crate) skeleton: PathBuf,
    /// Its key: part of the keys of what is built on it.
    pub(crate) key: String,
    /// What its key begins with, and those of all that is built on it.
    form: String,
}

/// What is to be in the layer besides this repository's packages, and how new they are.
pub(crate) struct Wanted<'a> {
    /// An operator's additions.
    pub(crate) site: Option<&'a Site>,
    /// Whether what Debian has updated since its last point release is left out.
    pub(crate) point_release: bool,
    /// Whether the archive is asked for newer packages.
    pub(crate) refresh: bool,
}

impl Wanted<'_> {
    /// Layers of different forms are kept side by side.
    fn form(&self) -> String {
        let site = if self.site.is_some() { "site-" } else { "" };
        let point_release = if self.point_release { "point-" } else { "" };
        format!("{site}{point_release}")
    }
}

impl Packages {
    /// The key of something that is built on this layer.
    pub(crate) fn key_on_top(&self, key: Key) -> String {
        self.form.clone() + &key.finish()
    }
}

/// Makes the layer, or finds the one made before.
pub(crate) fn make(
    place: &Place,
    progress: &Progress,
    tools: &Tools,
    wanted: &Wanted<'_>,
) -> Result<Packages> {
    let mut key = Key::new("packages 2").text(&tools.key).tree(&place.overlay("packages"))?;
    if let Some(site) = wanted.site {
        key = key.tree(&site.folder().join("mkosi.conf"))?.tree(&site.users())?;
    }
    let form = wanted.form();
    let key = form.clone() + &key.finish();
    let (root, skeleton) = (place.keyed("layer", &key), place.keyed("skeleton", &key));
    let packages = Packages { root, skeleton, key, form };
    if packages.root.exists() && !wanted.refresh {
        progress.kept("package layer");
        return Ok(packages);
    }
    install(place, progress, tools, wanted, &packages)?;
    Ok(packages)
}

fn install(
    place: &Place,
    progress: &Progress,
    tools: &Tools,
    wanted: &Wanted<'_>,
    packages: &Packages,
) -> Result<()> {
    let Packages { root, skeleton, key, form: _ } = packages;
    let site = wanted.site;
    progress.step("package layer: JRE and stand-ins");
    make_skeleton(place, tools, site, skeleton)?;
    let own = own_packages(place, tools)?;
    progress.step("package layer: mkosi (about three minutes)");
    apt_sources(place, tools, wanted.point_release)?;
    let output = place.fresh("layer")?;
    let mut command = mkosi::command(place, tools, &place.overlay("packages"));
    command.arg("--skeleton-tree").arg(skeleton).arg("--package-directory").arg(&own);
    if let Some(config) = site.and_then(Site::config) {
        command.arg("--include").arg(config);
    }
    command.arg("--output-dir").arg(&output).args(["--output=layer", "--force", "build"]);
    exec::run(&mut command, &place.log("packages"), mkosi::SHOWN)?;
    place::remove(root)?;
    fs::rename(output.join("layer"), root).context("cannot put the package layer in place")?;
    place::remove(&output)?;
    place.forget_others("skeleton", key)?;
    place.forget_others("layer", key)
}

/// What mkosi reads instead of its own idea of Debian's sources.
fn apt_sources(place: &Place, tools: &Tools, point_release: bool) -> Result<()> {
    let list = tools.root().join("etc/apt/sources.list");
    let list =
        fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let path = place.kept.join("sandbox/etc/apt/sources.list.d/mkosi.sources");
    place::write(&path, &sources::deb822(&list, point_release)?)
}

/// A tree with all users and groups in it, laid down before the first package is configured.
fn make_skeleton(place: &Place, tools: &Tools, site: Option<&Site>, to: &Path) -> Result<()> {
    let tree = place.fresh("skeleton")?;
    for file in ["passwd", "group"] {
        // `*` in the master means a password in /etc/shadow that nobody has.
        let master = tools.root().join(format!("usr/share/base-passwd/{file}.master"));
        let text = fs::read_to_string(&master)
            .with_context(|| format!("cannot read {}", master.display()))?;
        place::write(&tree.join("etc").join(file), &text.replace(":*:", ":x:"))?;
    }
    let users = tree.join("usr/lib/sysusers.d");
    copy_files(&place.overlay("packages/users"), &users)?;
    if let Some(site) = site.filter(|site| site.users().is_dir()) {
        copy_files(&site.users(), &users)?;
    }
    let mut command = tools.command("systemd-sysusers");
    // The day on which a password was last changed would differ from day to day. It is the second day
    // of 1970: the first, 0, means that the user has to change it, and `su` would ask.
    command.env("SOURCE_DATE_EPOCH", "86400").arg("--root").arg(&tree);
    exec::run(&mut command, &place.log("users"), &[])?;
    for backup in ["passwd-", "group-", "shadow-", "gshadow-", ".pwd.lock"] {
        place::remove(&tree.join("etc").join(backup))?;
    }
    place::remove(to)?;
    fs::rename(&tree, to).context("cannot put the users in place")
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The packages that only this build knows: ZooKeeper's JRE, and what stands for packages left out.
fn own_packages(place: &Place, tools: &Tools) -> Result<PathBuf> {
    let folder = place.fresh("own")?;
    let jre = folder.join("trilith-jre");
    let modules = read_list(&place.overlay("packages/jre-modules"))?.join(",");
    let mut command = tools.command("jlink");
    command.arg("--add-modules").arg(&modules);
    command.args(["--strip-debug", "--no-header-files", "--no-man-pages", "--vm=server"]);
    let home = jre.join("usr/lib/jvm/trilith");
    fs::create_dir_all(jre.join("usr/lib/jvm"))?;
    exec::run(command.arg("--output").arg(&home), &place.log("jre"), &[])?;
    fs::create_dir_all(jre.join("usr/bin"))?;
    symlink("../lib/jvm/trilith/bin/java", jre.join("usr/bin/java"))?;
    let provides = "default-jre, default-jre-headless, java-runtime-headless";
    pack(place, tools, &jre, provides, "Java for ZooKeeper, nothing else")?;
    let omits = read_list(&place.overlay("packages/omits"))?;
    let omits = omits.iter().map(|line| omit(line)).collect::<Result<Vec<_>>>()?.join(", ");
    pack(place, tools, &folder.join("trilith-omits"), &omits, "Packages that nodes do without")?;
    Ok(folder)
}

/// `NAME VERSION REASON…` as a field of a package that stands for it.
fn omit(line: &str) -> Result<String> {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        [name, version, _, ..] => Ok(format!("{name} (= {version})")),
        _ => bail!("overlays/packages/omits: name, version and reason expected: {line}"),
    }
}

/// The lines of a list that are neither empty nor comments.
fn read_list(path: &Path) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
}

/// Makes a Debian package of a tree, beside it.
fn pack(place: &Place, tools: &Tools, tree: &Path, provides: &str, what: &str) -> Result<()> {
    let name = tree.file_name().and_then(|name| name.to_str()).context("a tree without a name")?;
    let control = format!(
        "Package: {name}\nVersion: 1\nArchitecture: amd64\nSection: misc\nPriority: optional\n\
         Maintainer: Trilith\nProvides: {provides}\nDescription: {what}\n"
    );
    place::write(&tree.join("DEBIAN/control"), &control)?;
    let mut command = tools.command("dpkg-deb");
    // Same bytes for the same content; nothing is gained by compressing what is unpacked at once.
    command.env("SOURCE_DATE_EPOCH", "0").args(["--root-owner-group", "-Znone", "--build"]);
    command.arg(tree).arg(tree.with_extension("deb"));
    exec::run(&mut command, &place.log(name), &[])?;
    place::remove(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_omitted_package_has_a_version_and_a_reason() {
        assert_eq!(omit("libllvm19  1:19.99  the JIT").unwrap(), "libllvm19 (= 1:19.99)");
        assert!(omit("libllvm19 1:19.99").is_err());
    }
}
