//! How mkosi is called, the same for the package layer, the initrd and the image.

use std::path::Path;
use std::process::Command;

use super::place::Place;
use super::tools::Tools;

/// The lines of its output that a person wants to see.
pub(crate) const SHOWN: &[&str] = &[
    "‣ Installing",
    "‣  Installing",
    "‣  Running",
    "‣  Copying",
    "‣  Generating",
    "‣  Creating",
    "‣ \"",
    "E: ",
];

/// mkosi with the configuration in `folder`; the caller adds settings and, last, the verb.
pub(crate) fn command(place: &Place, tools: &Tools, folder: &Path) -> Command {
    let mut command = tools.command("mkosi");
    command.arg("--directory").arg(folder);
    command.arg("--sandbox-tree").arg(place.kept.join("sandbox"));
    command.arg("--cache-dir").arg(place.kept.join("cache"));
    command.arg("--package-cache-dir").arg(place.kept.join("packages"));
    command.arg("--workspace-dir").arg(place.kept.join("work"));
    command
}
