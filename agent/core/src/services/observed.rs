//! What the host shows of units and files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::desired::{File, Folder, OnChange, Owner};
use super::limits::{Capacity, Limits};
use super::names::{Template, UnitName};

/// What the host shows of the owned and the desired units and files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observed {
    /// The units by name, or why the service manager cannot be asked now.
    pub units: Manager,
    /// The instances of the desired templates, by the folders that exist.
    pub instances: BTreeMap<Template, BTreeSet<String>>,
    /// The owned and the desired files that exist.
    pub files: BTreeMap<String, Found>,
    /// Those of the folders of secrets that exist.
    pub folders: BTreeMap<String, Folder>,
    /// What is in the owned folders, folders in them excepted.
    pub strays: BTreeSet<String>,
    /// The marks: units that run with an older configuration than what is on the disk, and what helps.
    pub pending: BTreeMap<UnitName, OnChange>,
    /// Those of the paths in `needs` and `permits` that exist.
    pub exists: BTreeSet<String>,
    /// What the host has to share.
    pub capacity: Capacity,
}

/// A file as it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Everything in it.
    pub content: String,
    /// The permission bits.
    pub mode: u32,
    /// Whose it is.
    #[serde(default)]
    pub owner: Owner,
}

/// What the service manager says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manager {
    /// The bus is not there, as early in the boot. With the reason.
    Away(String),
    /// The state of each owned and each desired unit.
    Units(BTreeMap<UnitName, Unit>),
}

/// One unit as systemd shows it (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Whether its file could be read: `loaded`, `not-found`, `masked`, `bad-setting`, …
    pub load: String,
    /// Whether it runs.
    pub active: Active,
    /// Whether systemd has a job queued for it: then its state is about to change, and nothing is to be asked.
    pub job: bool,
    /// How it ended last: `success`, `exit-code`, `oom-kill`, … Empty for units that are no service.
    pub result: String,
    /// For how many seconds it has been active without interruption; 0 if it is not.
    #[serde(default)]
    pub runs_for: u64,
    /// How often systemd has restarted it by itself since it was last started or forgiven (`NRestarts`).
    #[serde(default)]
    pub restarts: u32,
    /// When the first of these restarts was, in seconds since 1970-01-01 UTC, of a unit [in trouble](Self::is_troubled).
    #[serde(default)]
    pub since: Option<u64>,
    /// Its last lines in the journal, of a unit [in trouble](Self::is_troubled).
    #[serde(default)]
    pub lines: Vec<String>,
    /// Its resource controls, as far as the wish for it names them.
    #[serde(default)]
    pub limits: Limits,
}

/// The states of `ActiveState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Active {
    /// It runs.
    Active,
    /// It runs and reads its configuration again.
    Reloading,
    /// It does not run.
    Inactive,
    /// It ended badly, and systemd does not start it again by itself.
    Failed,
    /// It is being started, or waits for its automatic restart.
    Activating,
    /// It is being stopped.
    Deactivating,
    /// Something this agent has no rule for, such as `maintenance` or `refreshing`: left alone.
    Other,
}

/// Restarts in a row from which on a unit flaps. Fewer are a process that was killed.
const FLAPS: u32 = 3;

/// For how many seconds a unit must run until its restarts are forgiven: systemd counts them for ever, and waits
/// longer before each.
const CALM: u64 = 60;

impl Unit {
    /// Whether a person should read its journal: it failed, or comes and goes.
    pub fn is_troubled(&self) -> bool {
        match self.active {
            Active::Failed => true,
            Active::Activating => self.has_failed(),
            Active::Active | Active::Reloading => self.flaps(),
            Active::Inactive | Active::Deactivating | Active::Other => false,
        }
    }

    /// It ended badly, the last time.
    pub(super) fn has_failed(&self) -> bool {
        !matches!(self.result.as_str(), "" | "success")
    }

    /// It runs, and it is too early to say that it stays.
    pub(super) fn flaps(&self) -> bool {
        self.restarts >= FLAPS && self.runs_for < CALM
    }

    /// It had to be restarted and has been running for long enough since.
    pub(super) fn is_calm_again(&self) -> bool {
        self.restarts > 0 && self.runs_for >= CALM
    }
}

impl Found {
    /// Whether it is as desired.
    pub(super) fn is(&self, file: &File) -> bool {
        let File {
            content,
            mode,
            owner,
            checker: _, /* it was asked before the file was written */
        } = file;
        self.content == *content && self.mode == *mode && self.owner == *owner
    }
}

impl Default for Manager {
    fn default() -> Self {
        Self::Units(BTreeMap::new())
    }
}

/// Sizes only: files hold secrets.
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content, mode, owner } = self;
        write!(f, "Found {{ {} bytes, mode {mode:04o}, {owner} }}", content.len())
    }
}
