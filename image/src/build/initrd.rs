//! The initrd without the kernel's modules, which mkosi puts beside it into the UKI.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::agent::Agent;
use super::key::Key;
use super::mkosi;
use super::packages::Packages;
use super::place::{self, Place};
use super::progress::Progress;
use super::tools::Tools;
use crate::exec;

/// Makes the initrd, or finds the one made before. It follows the package layer, so that both have the
/// same versions of the same programs.
pub(crate) fn make(
    place: &Place,
    progress: &Progress,
    tools: &Tools,
    packages: &Packages,
) -> Result<PathBuf> {
    let key = Key::new("initrd 1").text(&packages.key);
    let key = key.tree(&place.overlay("initrd"))?.tree(&place.overlay("both"))?;
    let key = packages.key_on_top(key);
    let path = place.keyed("initrd", &key);
    if path.exists() {
        progress.kept("initrd");
        return Ok(path);
    }
    progress.step("initrd: mkosi (about a minute)");
    let output = place.fresh("initrd")?;
    let mut command = mkosi::command(place, tools, &place.overlay("initrd"));
    command.arg("--skeleton-tree").arg(&packages.skeleton);
    // The same state of the archive as for the layer.
    command.args(["--cache-only=metadata", "--output=initrd", "--output-dir"]).arg(&output);
    exec::run(command.args(["--force", "build"]), &place.log("initrd"), mkosi::SHOWN)?;
    fs::rename(output.join("initrd.cpio.zst"), &path).context("cannot put the initrd in place")?;
    place::remove(&output)?;
    place.forget_others("initrd", &key)?;
    Ok(path)
}

/// The initrd's own programs, as a second archive that the kernel lays over the first: they change often, and the first takes
/// a minute. The same bytes for the same programs.
pub(crate) fn programs(place: &Place, tools: &Tools, agent: &Agent) -> Result<PathBuf> {
    let archive = place.kept.join("initrd-programs.cpio");
    let script = "cd \"$1\" && find . -exec touch --no-dereference --date @0 {} + && find . | LC_ALL=C sort |
        cpio --quiet --create --format=newc --reproducible --owner=+0:+0 > \"$2\"";
    let mut command = tools.command("sh");
    command.args(["-euc", script, "sh"]).arg(&agent.initrd).arg(&archive);
    exec::run(&mut command, &place.log("initrd-programs"), &[])?;
    Ok(archive)
}
