//! The units that run on a node, and the files that they read. The one owner of starting and stopping.
//!
//! Only units of [`OWNED`] are ever started or stopped, and only files of [`OWNED_FILES`] are ever removed:
//! a static list needs no memory, so that a unit which the cluster file no longer asks for is stopped also by an
//! agent that was restarted meanwhile. Nothing is enabled or disabled: that writes `/etc`, and the agent starts
//! everything at each boot anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::BadValue;
use crate::status::Problem;
use crate::subject::{OnFailure, Plan, Subject};

#[cfg(test)]
mod tests;

/// The units that the agent is the owner of. Every other unit is the image's own affair.
pub const OWNED: [&str; 1] = [SSH];

/// The files below `/run/trilith` that the agent is the owner of.
pub const OWNED_FILES: [&str; 1] = [AUTHORIZED_KEYS];

/// The SSH server: it runs on a node whose cluster file has at least one key.
pub const SSH: &str = "ssh.service";

/// Where sshd looks for root's keys (`AuthorizedKeysFile` in the image's sshd configuration).
pub const AUTHORIZED_KEYS: &str = "/run/trilith/authorized_keys";

/// The units of a node and what they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Services;

/// Which units should run, and which files should be there before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// The units that should be active.
    pub units: BTreeSet<UnitName>,
    /// Whole files by absolute path.
    pub files: BTreeMap<String, File>,
}

/// A file's content and permissions. Its owner is root.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Everything in it.
    pub content: String,
    /// The permission bits, such as 0o600.
    pub mode: u32,
}

/// What the host shows of the owned units and files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// The units by name, or why the service manager cannot be asked now.
    pub units: Manager,
    /// The files that exist.
    pub files: BTreeMap<String, File>,
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

impl Default for Manager {
    fn default() -> Self {
        Self::Units(BTreeMap::new())
    }
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

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Stop a unit that the agent owns and the node no longer needs.
    Stop(UnitName),
    /// Remove a file that the agent owns and nothing reads any more.
    Remove(String),
    /// Write a whole file, atomically.
    Write {
        /// The absolute path.
        path: String,
        /// What is to be in it.
        file: File,
    },
    /// Start a unit.
    Start(UnitName),
}

impl Subject for Services {
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    /// One unit that cannot start must not keep the others down. A file that could not be written does not
    /// lead to a wrong start: the unit that reads it says so itself, and the next pass writes again.
    const ON_FAILURE: OnFailure = OnFailure::GoOn;

    /// Stops before removals, since a unit may still read its file; writes before starts, for the same reason.
    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        let mut plan = Plan { steps: Vec::new(), problems: Vec::new() };
        let units = match &observed.units {
            Manager::Units(units) => units,
            Manager::Away(reason) => {
                plan.problems.push(problem("system bus", format!("not there yet: {reason}")));
                plan.steps.extend(writes(desired, observed));
                return plan;
            }
        };
        for (name, unit) in units {
            plan.steps.extend(stop(desired, name, unit));
        }
        plan.steps.extend(removals(desired, observed));
        plan.steps.extend(writes(desired, observed));
        for name in &desired.units {
            match units.get(name) {
                Some(unit) => start(name, unit, &mut plan),
                None => {
                    plan.problems.push(problem(name.as_str(), "systemd does not know it".into()));
                }
            }
        }
        plan
    }
}

/// A stop, for a unit that runs without being asked for.
fn stop(desired: &Desired, name: &UnitName, unit: &Unit) -> Option<Step> {
    let owned = OWNED.contains(&name.as_str());
    let runs = match unit.active {
        Active::Active | Active::Reloading | Active::Activating => !unit.job,
        Active::Inactive | Active::Failed | Active::Deactivating | Active::Other => false,
    };
    (owned && runs && !desired.units.contains(name)).then(|| Step::Stop(name.clone()))
}

fn removals(desired: &Desired, observed: &Observed) -> impl Iterator<Item = Step> {
    let stale = |path: &&String| {
        OWNED_FILES.contains(&path.as_str()) && !desired.files.contains_key(path.as_str())
    };
    observed.files.keys().filter(stale).cloned().map(Step::Remove)
}

fn writes(desired: &Desired, observed: &Observed) -> impl Iterator<Item = Step> {
    let differs =
        |(path, file): &(&String, &File)| observed.files.get(path.as_str()) != Some(*file);
    let write =
        |(path, file): (&String, &File)| Step::Write { path: path.clone(), file: file.clone() };
    desired.files.iter().filter(differs).map(write)
}

/// What a desired unit needs: nothing, a start, or a person.
fn start(name: &UnitName, unit: &Unit, plan: &mut Plan<Step>) {
    let mut trouble = |reason: String| plan.problems.push(problem(name.as_str(), reason));
    if unit.load != "loaded" {
        return trouble(format!("its unit file is {}", unit.load));
    }
    match unit.active {
        Active::Active | Active::Reloading => {}
        // The unit's own Restart= decides how often it is tried; starting it again from here would undo
        // its start limit. The event of its next change brings the next look.
        Active::Activating if unit.job || settles(unit) => trouble("is starting".into()),
        Active::Activating => {
            trouble(format!("failed ({}) and waits for its restart", unit.result));
        }
        Active::Deactivating => trouble("is stopping".into()),
        Active::Failed | Active::Inactive if unit.job => trouble("is starting".into()),
        Active::Failed => {
            trouble(format!("failed ({})", unit.result));
            plan.steps.push(Step::Start(name.clone()));
        }
        Active::Inactive => plan.steps.push(Step::Start(name.clone())),
        Active::Other => trouble("is in a state that the agent leaves alone".into()),
    }
}

fn settles(unit: &Unit) -> bool {
    matches!(unit.result.as_str(), "" | "success")
}

fn problem(object: &str, reason: String) -> Problem {
    Problem { object: object.into(), reason }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(unit) => write!(f, "stop {unit}"),
            Self::Remove(path) => write!(f, "remove {path}"),
            Self::Write { path, file } => {
                write!(f, "write {path} ({} bytes, mode {:04o})", file.content.len(), file.mode)
            }
            Self::Start(unit) => write!(f, "start {unit}"),
        }
    }
}

/// Sizes only: later files hold secrets, and a plan is printed.
impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content, mode } = self;
        write!(f, "File {{ {} bytes, mode {mode:04o} }}", content.len())
    }
}

/// The full name of a systemd unit, such as `ceph-osd@3.service`: at most 255 characters of letters, digits and
/// `:-_.\@`, with a type after the last dot (systemd.unit(5)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

impl UnitName {
    /// The SSH server's.
    pub fn ssh() -> Self {
        Self(SSH.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UnitName {
    type Error = BadValue;

    fn try_from(name: String) -> Result<Self, BadValue> {
        const TYPES: [&str; 11] = [
            "service",
            "socket",
            "device",
            "mount",
            "automount",
            "swap",
            "target",
            "path",
            "timer",
            "slice",
            "scope",
        ];
        let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        match name.rsplit_once('.') {
            Some((stem, kind))
                if !stem.is_empty()
                    && name.len() <= 255
                    && name.chars().all(good)
                    && TYPES.contains(&kind) =>
            {
                Ok(Self(name))
            }
            _ => Err(BadValue(
                "a unit name is like ssh.service: letters, digits, ':-_.\\@' and a type".into(),
            )),
        }
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
