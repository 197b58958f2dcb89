//! What /var holds from the beginning: who the machine is.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use trilith_core::belonging::Belonging;
use trilith_core::bundle::Bundle;
use trilith_core::install::{MEDIUM, Var};

use crate::exec;
use crate::mounted::{Mounted, Way};

/// The agent's own folder, below /var.
const FOLDER: &str = "lib/trilith";

/// What the /var on this device says. One that cannot be mounted is an answer, too.
pub(crate) fn read(device: &str, bundle: &Bundle) -> Var {
    let read = || -> Result<Var> {
        let var = Mounted::var(device, Way::Read)?;
        let text = |path: PathBuf| match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let belonging = text(var.path().join(FOLDER).join("belonging.yaml"))?;
        let medium = text(var.path().join(MEDIUM))?;
        var.close()?;
        Ok(Var::of(belonging.as_deref(), medium.as_deref().map(str::trim), bundle))
    };
    read().unwrap_or_else(|error| Var::Unreadable(format!("{error:#}")))
}

/// What is written to it.
pub(crate) struct State<'a> {
    /// Who the node is.
    pub(crate) bundle: &'a Bundle,
    /// The same as text, if the agent is to find it there.
    pub(crate) text: Option<&'a str>,
    /// What it was prepared by, for whoever looks at it the next time.
    pub(crate) prepared: &'a str,
}

/// Writes who the node is: a machine ID if it has none yet, its bundle, whom it belongs to if it belongs to nobody yet, and,
/// last, what it was prepared by.
pub(crate) fn write(device: &str, state: &State<'_>) -> Result<()> {
    exec::run("/usr/lib/systemd/systemd-fsck", &[device])?;
    let var = Mounted::var(device, Way::Write)?;
    let folder = var.path().join(FOLDER);
    let made = DirBuilder::new().recursive(true).mode(0o755).create(var.path().join("lib"));
    made.and_then(|()| DirBuilder::new().recursive(true).mode(0o700).create(&folder))
        .with_context(|| format!("cannot make {FOLDER}"))?;
    let own = |name: &str| folder.join(name);
    if !own("machine-id").exists() {
        let random = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        put(&own("machine-id"), &random.replace('-', ""))?;
    }
    if let Some(text) = state.text {
        put(&own("bundle.yaml"), text)?;
    }
    if !own("belonging.yaml").exists() {
        let belonging = Belonging::of(state.bundle).context("a bundle without its node")?;
        put(&own("belonging.yaml"), &belonging.text()?)?;
    }
    put(&var.path().join(MEDIUM), &format!("{}\n", state.prepared))?;
    var.close()
}

/// Writes a file that is there whole or not at all, for root alone.
fn put(path: &Path, text: &str) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside).with_context(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    fs::rename(&beside, path).with_context(failed)?;
    let folder = path.parent().with_context(failed)?;
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(failed)
}
