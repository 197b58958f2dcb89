//! What lies beside the image: compressed download, package list, SBOM, check sums; and the budgets.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::agent::Agent;
use super::packages::Packages;
use super::place::{self, Place};
use super::progress::Progress;
use super::release::Release;
use super::tools::Tools;
use super::{disk, sizes};
use crate::exec;
use crate::sbom;

const MIB: u64 = 1 << 20;

/// A limit on the size of a file, by the end of its name. What passes it fails the build.
struct Budget {
    what: &'static str,
    ending: &'static str,
    limit: u64,
}

const BUDGETS: &[Budget] = &[
    // Some firmware loads no larger programs, and downloads them slowly.
    Budget { what: "UKI", ending: "efi", limit: 100 * MIB },
    // Slots have 3 GiB; half of it stays free for years of growth.
    Budget { what: "root, uncompressed", ending: "root", limit: 1638 * MIB },
    // The disk image with root, hash tree and UKI, as it is downloaded.
    Budget { what: "compressed download", ending: "raw.zst", limit: 650 * MIB },
];

/// A finished set of files.
pub(crate) struct Artifacts {
    /// The folder that they are in.
    pub(crate) folder: PathBuf,
    /// What their names begin with: `trilith_VERSION`.
    pub(crate) name: String,
}

impl Artifacts {
    /// The path of one of them, by the end of its name.
    pub(crate) fn path(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.name))
    }

    /// Whether they were made with this key, and are all there.
    pub(crate) fn are_made_with(&self, key: &str) -> bool {
        let noted = fs::read_to_string(self.note()).unwrap_or_default();
        noted.trim() == key && ENDINGS.iter().all(|ending| self.path(ending).is_file())
    }

    /// Notes the key that they were made with: the last thing that a build does.
    pub(crate) fn note_key(&self, key: &str) -> Result<()> {
        place::write(&self.note(), key)
    }

    /// Forgets the key: from here on the files are being replaced.
    pub(crate) fn forget_key(&self) -> Result<()> {
        place::remove(&self.note())
    }

    fn note(&self) -> PathBuf {
        self.folder.join(format!(".{}.key", self.name))
    }
}

/// All files of a build, by the ends of their names.
const ENDINGS: &[&str] =
    &["raw", "raw.zst", "efi", "root", "verity", "roothash", "packages.txt", "spdx.json", SUMS];

/// What the files of a build are, as `sha256sum` writes it; the last of them.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// Makes everything that follows from the image's own files.
pub(crate) fn complete(
    place: &Place,
    progress: &Progress,
    tools: &Tools,
    (release, packages, agent): (&Release, &Packages, &Agent),
    artifacts: &Artifacts,
) -> Result<()> {
    progress.step("package list, SBOM");
    let status = packages.root.join("var/lib/dpkg/status");
    let status =
        fs::read_to_string(&status).with_context(|| format!("cannot read {}", status.display()))?;
    let list = sbom::package_list(&sbom::packages(&status));
    place::write(&artifacts.path("packages.txt"), &list)?;
    let version = release.version.to_string();
    let inputs = sbom::Inputs {
        name: &artifacts.name,
        version: &version,
        epoch: release.epoch,
        status: &status,
        crates: &agent.crates,
    };
    place::write(&artifacts.path("spdx.json"), &sbom::spdx(&inputs))?;
    let hash = disk::root_hash(&artifacts.path("efi"))?;
    place::write(&artifacts.path("roothash"), &format!("{hash}\n"))?;
    progress.step("compressed download");
    let mut command = tools.command("zstd");
    // Level 6 takes a fifth of the time of level 19 and gives 8 % more; a window of 128 MiB is what
    // every zstd decompresses without being asked.
    command.args(["--quiet", "--force", "-T0", "-6", "--long=27", "-o"]);
    command.arg(artifacts.path("raw.zst")).arg(artifacts.path("raw"));
    exec::run(&mut command, &place.log("compress"), &[])?;
    progress.step("check sums");
    check_sums(tools, artifacts)
}

fn check_sums(tools: &Tools, artifacts: &Artifacts) -> Result<()> {
    let mut command = tools.command("sha256sum");
    command.args(ENDINGS.iter().filter(|e| **e != SUMS).map(|e| artifacts.path(e)));
    // Relative names: `sha256sum --check` is run where the files were downloaded to.
    let folder = format!("{}/", artifacts.folder.display());
    let sums = exec::output(&mut command)?.replace(&folder, "");
    place::write(&artifacts.path(SUMS), &sums)
}

/// What the person who builds reads at the end: sizes against budgets, and what the root is made of.
pub(crate) struct Report {
    /// The text.
    pub(crate) text: String,
    /// Whether all budgets are kept.
    pub(crate) within: bool,
}

/// Measures the files.
pub(crate) fn report(artifacts: &Artifacts, packages: &Packages) -> Result<Report> {
    let mut text = String::from("sizes, MiB (used of budget):\n");
    let mut within = true;
    for Budget { what, ending, limit } in BUDGETS {
        let size = size(&artifacts.path(ending))?;
        let over = if size > *limit { "  OVER BUDGET" } else { "" };
        within &= size <= *limit;
        let (size, limit) = (mib(size), limit / MIB);
        writeln!(text, "  {what:<22} {size:>7} of {limit:>5}{over}")?;
    }
    writeln!(text, "  {:<22} {:>7}", "hash tree", mib(size(&artifacts.path("verity"))?))?;
    writeln!(text, "largest packages in the root, MiB:")?;
    for (package, bytes) in sizes::largest(&packages.root, 15)? {
        writeln!(text, "  {package:<40} {:>7}", mib(bytes))?;
    }
    writeln!(text, "root hash {}", fs::read_to_string(artifacts.path("roothash"))?.trim())?;
    write!(text, "{}", artifacts.path("raw").display())?;
    Ok(Report { text, within })
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("cannot measure {}", path.display()))?.len())
}

/// Mebibytes with one digit after the point, rounded up, without floating-point numbers.
fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(MIB);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up() {
        assert_eq!(mib(0), "0.0");
        assert_eq!(mib(1), "0.1");
        assert_eq!(mib(100 * MIB), "100.0");
        assert_eq!(mib(100 * MIB + 1), "100.1");
    }
}
