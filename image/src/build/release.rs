//! What one build is called, and the times and numbers that follow from it.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use trilith_core::version::Version;

use crate::exec;

/// The UUID that every random number of an image follows from (RFC 9562, version 8): the same in all releases, so that the
/// hash tree of a block that has not changed has not either, and need not be fetched. The salt of a hash tree is public.
pub(crate) const SEED: &str = "7472696c-6974-8868-a000-6e6f6465206f";

/// A version with its time.
pub(crate) struct Release {
    /// The version.
    pub(crate) version: Version,
    /// The time of all files in it, in seconds since 1970-01-01 UTC (`SOURCE_DATE_EPOCH`).
    pub(crate) epoch: u64,
}

impl Release {
    /// The release to build: its time is that of the last commit, and without a version it is a
    /// development build, named by that day with the number 0.
    ///
    /// # Errors
    /// `SOURCE_DATE_EPOCH` is not a number, or is not set and there is no git history.
    pub(crate) fn of(top: &Path, version: Option<Version>) -> Result<Self> {
        let epoch = match env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text,
            Err(_) => exec::output(
                // The folder may belong to another user than the one who builds, as in CI.
                Command::new("git")
                    .arg("-c")
                    .arg(format!("safe.directory={}", top.display()))
                    .arg("-C")
                    .arg(top)
                    .args(["log", "-1", "--format=%ct"]),
            )
            .context("no time for the build: neither SOURCE_DATE_EPOCH nor a git history")?,
        };
        let epoch = epoch.trim().parse().context("SOURCE_DATE_EPOCH is not a number of seconds")?;
        let version = match version {
            Some(version) => version,
            None => development_version(epoch).parse()?,
        };
        Ok(Self { version, epoch })
    }

    /// What the files of this release begin with.
    pub(crate) fn name(&self) -> String {
        self.version.label()
    }
}

fn development_version(epoch: u64) -> String {
    let day =
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(epoch)).to_string();
    format!("{}-0", day[..10].replace('-', "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_development_build_has_the_day_of_its_commit() {
        assert_eq!(development_version(1_795_229_349), "2026.11.21-0");
    }
}
