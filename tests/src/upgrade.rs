//! A node that is upgraded: what is wished of it, what it says, and where it ended. The words are those of
//! `trilith-update` and `trilith-gate`.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_yaml::Value;
use trilith_core::version::Version;

use crate::machine::REACTION;
use crate::node::Node;

/// Where the updater is told what to do, and where it says what it does.
const WISH: &str = "/run/trilith/update/wish.yaml";
const STATE: &str = "/run/trilith-update/state.yaml";
/// What the gate says of the boot that runs.
const GATE: &str = "/run/trilith-gate/state.yaml";
/// What the gate remembers of releases that have failed.
const FAILED: &str = "/var/lib/trilith-gate/failed.yaml";

/// How long a machine without KVM may take to fetch a release, write it, and read it back.
pub const STAGING: Duration = Duration::from_mins(20);
/// How long it may take from a reboot to where it rests: three tries and the way back.
pub const TRIAL: Duration = Duration::from_mins(25);

/// A wish, as the wave writes it.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Which release.
    pub version: &'a Version,
    /// Where releases are.
    pub source: String,
    /// The SHA-256 of the first root.
    pub trust: String,
    /// Whether it is to be started, too.
    pub activate: bool,
    /// Whether it may be older than what runs.
    pub back: bool,
    /// How long a boot may take to prove itself, in seconds.
    pub trial: u64,
}

impl Wish<'_> {
    fn text(&self) -> String {
        let Self { version, source, trust, activate, back, trial } = self;
        format!(
            "version: '{version}'\nsource: {source}\ntrust: {trust}\nactivate: {activate}\nback: {back}\ntrial: {trial}\n"
        )
    }
}

/// Where an upgrade has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The release that runs.
    pub running: String,
    /// The systems that the boot loader finds.
    pub systems: Vec<String>,
    /// The releases that have failed here, each with the reason.
    pub failed: Vec<(String, String)>,
}

impl Ended {
    /// Whether it is on this release for good: it runs, and no other would be started next.
    pub fn rests_on(&self, version: &Version) -> bool {
        let name = format!("{}.efi", version.label());
        self.running == version.as_str()
            && self.systems.contains(&name)
            && !self.systems.iter().any(|system| is_on_trial(system))
    }

    /// Why this release has failed here, if it has.
    pub fn why(&self, version: &Version) -> Option<&str> {
        let found = self.failed.iter().rev().find(|(failed, _)| failed == version.as_str());
        found.map(|(_, why)| why.as_str())
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} runs, beside it {:?}, failed {:?}", self.running, self.systems, self.failed)
    }
}

/// Whether the boot loader would try a system that nobody has proven.
fn is_on_trial(system: &str) -> bool {
    let counter = system.strip_suffix(".efi").and_then(|name| name.rsplit_once('+'));
    counter.is_some_and(|(_, counter)| !counter.starts_with('0'))
}

/// Writes a file on the node, whole or not at all.
pub fn put(node: &Node<'_>, path: &str, text: &str) -> Result<()> {
    let text = BASE64_STANDARD.encode(text);
    let script = format!(
        "mkdir -p $(dirname {path}) && echo {text} | base64 -d > {path}.new && mv {path}.new {path}"
    );
    node.ssh(&script).map(drop)
}

/// Tells the updater what is wished for.
pub fn wish(node: &Node<'_>, wish: &Wish<'_>) -> Result<()> {
    put(node, WISH, &wish.text())
}

/// Takes the wish back.
pub fn unwish(node: &Node<'_>) -> Result<()> {
    node.ssh(&format!("rm -f {WISH}")).map(drop)
}

/// What the updater says of itself.
pub fn state(node: &Node<'_>) -> Result<Value> {
    let text = node.ssh(&format!("cat {STATE}"))?;
    serde_yaml::from_str(&text).with_context(|| text.clone())
}

/// Waits until the release is staged, whole. A refusal ends the waiting.
pub fn wait_staged(node: &Node<'_>, version: &Version) -> Result<()> {
    let staged = node.console().until("the release is staged", STAGING, || {
        let state = state(node)?;
        let refused = refusal(&state);
        if refused.is_some() {
            return Ok(refused);
        }
        ensure!(state["staged"].as_str() == Some(version.as_str()), "{state:?}");
        Ok(None)
    })?;
    staged.map_or(Ok(()), |why| bail!("{version} is refused: {why}"))
}

/// Waits until the updater refuses the wish, or says that it failed, with these words; gives all of them.
pub fn wait_refused(node: &Node<'_>, version: &Version, words: &str) -> Result<String> {
    node.console().until("the wish is refused", STAGING, || {
        let state = state(node)?;
        ensure!(state["wished"].as_str() == Some(version.as_str()), "{state:?}");
        let failed = || state["failed"].as_str().map(str::to_owned);
        let why = refusal(&state).or_else(failed).with_context(|| format!("{state:?}"))?;
        ensure!(why.contains(words), "{words:?} is not in: {why}");
        Ok(why)
    })
}

fn refusal(state: &Value) -> Option<String> {
    let refused = state["refused"].as_sequence().filter(|all| !all.is_empty())?;
    let reasons = refused.iter().filter_map(|problem| problem["reason"].as_str());
    Some(reasons.collect::<Vec<_>>().join("; "))
}

/// The release that runs.
pub fn running(node: &Node<'_>) -> Result<String> {
    Ok(node.ssh(". /etc/os-release && echo $IMAGE_VERSION")?.trim().to_owned())
}

/// Where the node stands now. The ESP is looked at for a moment only: others may want to mount it another way.
pub fn look(node: &Node<'_>) -> Result<Ended> {
    let script = format!(
        "set -e; . /etc/os-release; echo $IMAGE_VERSION; \
         ls {ESP}/EFI/Linux > /run/test-systems || true; umount {ESP}; cat /run/test-systems; \
         echo ---; cat {FAILED} 2>/dev/null || true"
    );
    mount_esp(node)?;
    let said = node.ssh(&script)?;
    let (first, failed) = said.split_once("---\n").context("an answer without its end")?;
    let mut lines = first.lines().map(str::to_owned);
    let running = lines.next().context("no version")?;
    let failed: Value = serde_yaml::from_str(failed).context("what has failed is no YAML")?;
    let word = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let failed = failed.as_sequence().into_iter().flatten();
    let failed = failed.map(|one| (word(one, "version"), word(one, "why"))).collect();
    Ok(Ended { running, systems: lines.collect(), failed })
}

/// Where the ESP is mounted to be looked at.
pub const ESP: &str = "/run/test-esp";

/// Mounts it. Updater and gate mount it as well, each in its own way and for a moment only.
pub fn mount_esp(node: &Node<'_>) -> Result<()> {
    let mount = format!("mkdir -p {ESP} && mount -t vfat /dev/disk/by-partlabel/trilith-esp {ESP}");
    node.console().until("the ESP is free", REACTION, || node.ssh(&mount).map(drop))
}

/// Waits until the machine rests on one of two releases, through reboots and panics. It has begun to restart already.
pub fn wait_rest(node: &Node<'_>, releases: [&Version; 2]) -> Result<Ended> {
    node.console().outlast("the machine comes to rest", TRIAL, || {
        // Until the gate is done it may want the ESP for itself.
        node.ssh(&format!("grep -qx 'stand: old\\|stand: proven' {GATE}"))?;
        let ended = look(node)?;
        let rests = releases.iter().any(|version| ended.rests_on(version));
        ensure!(rests, "{ended}");
        Ok(ended)
    })
}

/// Watches for how long a node is away: whether it answers a ping, ten times a second. (Its SSH server keeps away whoever
/// connects as often and does not log in: `PerSourcePenalties`, `sshd_config(5)`.)
#[derive(Debug)]
pub struct Absence {
    shared: Arc<Mutex<Watch>>,
    ping: Child,
}

#[derive(Debug)]
struct Watch {
    seen: Instant,
    longest: Duration,
}

impl Absence {
    /// Begins to watch, in the network of the calling thread. The node is there now.
    pub fn watch(address: IpAddr) -> Result<Self> {
        let shared = Watch { seen: Instant::now(), longest: Duration::ZERO };
        let shared = Arc::new(Mutex::new(shared));
        let mut command = Command::new("ping");
        command.args(["-n", "-i", "0.1"]).arg(address.to_string());
        let mut ping = command.stdout(Stdio::piped()).spawn().context("cannot start ping")?;
        let stdout = ping.stdout.take().context("ping has no stdout")?;
        let watch = Arc::clone(&shared);
        thread::spawn(move || keep_watch(stdout, &watch));
        Ok(Self { shared, ping })
    }

    /// The longest time that it was away so far.
    pub fn longest(&self) -> Duration {
        lock(&self.shared).longest
    }

    /// For how long it has been away by now.
    pub fn current(&self) -> Duration {
        lock(&self.shared).seen.elapsed()
    }

    /// The longest time, and begins anew.
    pub fn take_longest(&self) -> Duration {
        std::mem::take(&mut lock(&self.shared).longest)
    }
}

impl Drop for Absence {
    fn drop(&mut self) {
        let _ended = self.ping.kill().and_then(|()| self.ping.wait());
    }
}

/// Until ping ends.
fn keep_watch(stdout: ChildStdout, watch: &Mutex<Watch>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if line.contains(" bytes from ") {
            let mut watch = lock(watch);
            watch.longest = watch.longest.max(watch.seen.elapsed());
            watch.seen = Instant::now();
        }
    }
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_rests_on_a_release_when_no_other_is_tried() {
        let (old, new): (Version, Version) = ("1.0-1".parse().unwrap(), "1.0-2".parse().unwrap());
        let ended = |running: &str, systems: &[&str]| Ended {
            running: running.into(),
            systems: systems.iter().map(|name| (*name).to_owned()).collect(),
            failed: vec![("1.0-2".into(), "first".into()), ("1.0-2".into(), "last".into())],
        };
        let proven = "trilith_1.0-1.efi";
        assert!(ended("1.0-1", &[proven]).rests_on(&old));
        assert!(ended("1.0-1", &[proven, "trilith_1.0-2+0-3.efi"]).rests_on(&old));
        assert!(!ended("1.0-1", &[proven, "trilith_1.0-2+2-1.efi"]).rests_on(&old));
        assert!(!ended("1.0-2", &[proven, "trilith_1.0-2+0-3.efi"]).rests_on(&new));
        assert!(ended("1.0-2", &[proven, "trilith_1.0-2.efi"]).rests_on(&new));
        assert_eq!(ended("1.0-1", &[]).why(&new), Some("last"));
        assert_eq!(ended("1.0-1", &[]).why(&old), None);
    }
}
