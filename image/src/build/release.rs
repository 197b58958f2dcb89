//! What one build is called, and the times and numbers that follow from it.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};
use trilith_core::version::Version;

use super::key;
use crate::exec;

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

    /// The UUID that all random numbers of the image are derived from: the same for the same version.
    pub(crate) fn seed(&self) -> String {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::digest(self.name())[..16]);
        // A name-based UUID of the vendor's own kind (RFC 9562, version 8).
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex = key::hex(&bytes);
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
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
    fn a_seed_is_a_uuid_and_follows_from_the_version() {
        let seed = |version: &str| Release { version: version.parse().unwrap(), epoch: 0 }.seed();
        assert_eq!(seed("1"), seed("1"));
        assert_ne!(seed("1"), seed("2"));
        assert_eq!(seed("1").len(), 36);
        assert_eq!(seed("1").as_bytes()[14], b'8');
    }

    #[test]
    fn a_development_build_has_the_day_of_its_commit() {
        assert_eq!(development_version(1_795_229_349), "2026.11.21-0");
    }
}
