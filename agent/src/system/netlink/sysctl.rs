//! Kernel parameters below /proc/sys.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::NetlinkError;

/// The thread's own view: another network namespace has other parameters.
const ROOT: &str = "/proc/sys";

/// Reads parameters; one that does not exist is missing from the answer.
pub(super) fn read(paths: BTreeSet<String>) -> BTreeMap<String, String> {
    let value = |path: &str| {
        let text = fs::read_to_string(Path::new(ROOT).join(path)).ok()?;
        Some(text.trim().to_owned())
    };
    paths.into_iter().filter_map(|path| value(&path).map(|value| (path, value))).collect()
}

/// Writes a parameter.
pub(super) fn write(path: &str, value: &str) -> Result<(), NetlinkError> {
    fs::write(Path::new(ROOT).join(path), value)
        .map_err(|source| NetlinkError::Sysctl { path: path.to_owned(), source })
}
