//! How long a build takes, cold and after a change of the agent, and how large what it leaves is.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use trilith_tests::artifact;

use crate::table::Table;

/// A line that changes the agent's program and nothing that it does.
const CHANGE: &str = "\n#[used]\nstatic BENCH: u8 = 1;\n";

/// Sizes of the newest build, against the budgets that the build itself enforces.
pub(crate) fn sizes(table: &mut Table) -> Result<()> {
    let image = artifact::image()?;
    for (what, ending, limit) in [
        ("UKI", "efi", "100 MiB"),
        ("root, uncompressed", "root", "1638 MiB"),
        ("verity data", "verity", ""),
        ("whole download, compressed", "raw.zst", "650 MiB"),
    ] {
        let file = image.with_extension(ending);
        let bytes = file.metadata().with_context(|| format!("no {}", file.display()))?.len();
        table.add(what, &mebibytes(bytes), limit);
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}

/// Builds a copy of the sources, with nothing that was built before, then again after one changed line.
pub(crate) fn times(table: &mut Table) -> Result<()> {
    let source = fresh_copy()?;
    let cold = timed_build(&source)?;
    table.add(
        "trilith build, cold: tools tree, packages, agent, image",
        &format!("{cold:.0} s"),
        "",
    );
    let main = source.join("agent/src/main.rs");
    let mut main =
        OpenOptions::new().append(true).open(&main).context("cannot open the agent's main.rs")?;
    main.write_all(CHANGE.as_bytes())?;
    let rebuild = timed_build(&source)?;
    table.add(
        "trilith build after a one-line change of the agent",
        &format!("{rebuild:.0} s"),
        "90 s",
    );
    Ok(())
}

/// What is committed, in a folder of its own, so that no cache of the checkout helps.
fn fresh_copy() -> Result<PathBuf> {
    let source = artifact::target().canonicalize()?.join("bench/source");
    if source.exists() {
        fs::remove_dir_all(&source).context("cannot remove the last run's copy")?;
    }
    fs::create_dir_all(&source)?;
    let script = format!("git archive HEAD | tar --extract --directory {}", source.display());
    let status =
        Command::new("sh").arg("-c").arg(script).current_dir(artifact::repository()).status()?;
    if !status.success() {
        bail!("git archive: {status}");
    }
    Ok(source)
}

fn timed_build(source: &Path) -> Result<f64> {
    let trilith = artifact::target().canonicalize()?.join("release/trilith");
    let start = Instant::now();
    let status = Command::new(&trilith)
        .args(["build", "--version", "bench"])
        .current_dir(source)
        // The copy has no commits to take the time from.
        .env("SOURCE_DATE_EPOCH", "0")
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .with_context(|| format!("cannot start {}", trilith.display()))?;
    if !status.success() {
        bail!("trilith build in {}: {status}", source.display());
    }
    Ok(start.elapsed().as_secs_f64())
}
