//! The node bundle as it comes and changes. The last good one stays in force until a better one is there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tracing::{info, warn};
use trilith_core::belonging::Belonging;
use trilith_core::secrets::Secret;
use trilith_core::secrets::certificate::{Certificate, warning};
use trilith_core::status::{BundleStatus, NodeIdentity, Problem};

use super::Wish;
use super::installation::Installation;
use super::onlooker::Onlooker;
use super::updates::Updates;
use crate::bundle::{self, Depth, Findings, Found, Reading};
use crate::reconcile::chain;
use crate::report::console::Console;
use crate::report::manager::Manager;
use crate::report::{Report, unix_now};
use crate::system::bundle::Places;
use crate::system::files::{self, Watch};
use crate::system::memory::Memory;

/// How long until a bundle that could not be kept is tried again, if nothing else happens before.
const KEEP_AGAIN: Duration = Duration::from_mins(1);

/// How often the clock is looked at for the end of the certificate: nobody tells when 60 days are left.
const CLOCK: Duration = Duration::from_hours(1);

/// Where bundles come from.
pub(super) struct Sources {
    /// Where somebody may have put one.
    pub(super) places: Places,
    /// Where the agent keeps the last good one.
    pub(super) memory: Memory,
}

/// Reads the bundle and passes on what it means.
pub(super) struct Follower {
    sources: Sources,
    files: Watch,
    hangup: Signal,
    wishes: Vec<Wish>,
    report: Report,
    /// The bundle in force.
    current: Option<InForce>,
    /// What is wrong with the bundle that was found last.
    problems: Vec<Problem>,
    /// Why the bundle in force is not kept for the next boot.
    unkept: Option<Problem>,
    /// What was told last of the certificate's end.
    warned: Option<Problem>,
    onlooker: Onlooker,
    installation: Installation,
    updates: Updates,
}

/// The bundle in force.
struct InForce {
    identity: NodeIdentity,
    source: PathBuf,
    text: Secret,
    /// Whether it lies encrypted in the agent's folder.
    kept: bool,
    /// When the node's certificate ends, in seconds since 1970-01-01 UTC.
    ends: Option<u64>,
    /// Whether it names a disk for /var.
    keeps_var: bool,
}

impl Follower {
    /// Listens for changes first, then reads: no change falls between.
    pub(super) async fn new(
        sources: Sources,
        wishes: Vec<Wish>,
        report: Report,
        console: Console,
    ) -> anyhow::Result<Self> {
        let files = Watch::new(sources.places.watched())?;
        let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let onlooker = Onlooker::new(console);
        let (current, problems, unkept, warned) = (None, Vec::new(), None, None);
        let mut follower = Self {
            sources,
            files,
            hangup,
            wishes,
            report,
            current,
            problems,
            unkept,
            warned,
            onlooker,
            installation: Installation::default(),
            updates: Updates::default(),
        };
        follower.updates.listen()?;
        follower.report.set_update(Updates::state());
        follower.read().await;
        Ok(follower)
    }

    /// Follows the bundle until the agent stops.
    pub(super) async fn run(mut self, manager: Manager) -> anyhow::Result<()> {
        loop {
            let unknown = self.current.is_none();
            if unknown {
                self.onlooker.show();
                self.report.set_sighting(&self.onlooker.shown);
            }
            self.keep().await;
            // Cancel safety: `Watch::changed`, `Installation::changed`, `Updates::changed` and `Signal::recv` say of themselves that they
            // are; the onlooker only waits, for something that stays true until it looks.
            tokio::select! {
                changed = self.files.changed() => {
                    changed?;
                    self.read().await;
                }
                _ = self.hangup.recv() => {
                    let _reloading = manager.reloading();
                    self.read().await;
                }
                // A NIC that comes late may be the one by which the machine is recognised.
                () = self.onlooker.news(), if unknown => self.read().await,
                () = self.installation.changed() => {
                    self.report.set_installation(Some(Installation::text()));
                }
                () = self.updates.changed() => self.report.set_update(Updates::state()),
                () = sleep(KEEP_AGAIN), if self.unkept.is_some() => {}
                () = sleep(CLOCK) => self.tell(),
            }
        }
    }

    /// Looks through the sources. Whoever has a bundle in force gives it up for nothing worse than the first that comes.
    async fn read(&mut self) {
        let depth = if self.current.is_some() { Depth::First } else { Depth::All };
        let machine = self.onlooker.look().await;
        let Sources { places, memory } = &self.sources;
        let Findings { reading, told } = bundle::search(places, memory, &machine, depth).await;
        match reading {
            Reading::Good(found) => {
                self.onlooker.introduce(&found, &told);
                self.adopt(*found);
            }
            Reading::Bad { problems } => self.complain(problems),
            Reading::Nothing => self.miss(),
        }
        self.onlooker.told = told;
    }

    /// Takes a bundle into force.
    fn adopt(&mut self, found: Found) {
        let Found { source, text, assignment, joins, mut problems } = found;
        warn_of(&problems);
        let identity = assignment.identity.clone();
        info!(node = identity.id, source = %source.display(), "node bundle read");
        // First remembered, then followed.
        let forgotten = joins.and_then(|joins| self.join(&joins));
        warn_of(forgotten.as_slice());
        problems.extend(forgotten);
        let kept = source == self.sources.memory.bundle_path()
            || self.current.as_ref().is_some_and(|before| before.kept && before.text == text);
        let certificate = Certificate::read(&assignment.peers.identity.certificate).ok();
        let ends = certificate.and_then(|it| u64::try_from(it.not_after).ok());
        let keeps_var = assignment.keeps_var;
        self.current = Some(InForce { identity, source, text, kept, ends, keeps_var });
        self.problems = problems;
        if Installation::is_due(&assignment) {
            self.install();
        } else {
            self.report.set_installation(None);
            self.wishes.iter().for_each(|wish| wish(&assignment));
        }
        self.tell();
    }

    /// Has the node installed, and brings nothing up meanwhile.
    fn install(&mut self) {
        let Some(current) = &self.current else { return };
        if let Err(error) = self.installation.wish(&current.text) {
            let reason = format!("the installation cannot be wished for: {}", chain(&error));
            let problem = Problem { object: "installation".into(), reason };
            warn_of(std::slice::from_ref(&problem));
            self.problems.push(problem);
        }
        self.report.set_installation(Some(Installation::text()));
    }

    /// Remembers whom the machine belongs to; or why it could not.
    fn join(&self, joins: &Belonging) -> Option<Problem> {
        let text = joins.text().map_err(|error| chain(&error).to_string());
        let memory = &self.sources.memory;
        let joined =
            text.and_then(|text| memory.join(&text).map_err(|error| chain(&error).to_string()));
        let object = memory.belonging_path().display().to_string();
        joined.err().map(|reason| Problem { object, reason })
    }

    /// The bundle in force is no longer in place. That is no loss if it is kept.
    fn miss(&mut self) {
        let Some(current) = &mut self.current else { return self.complain(Vec::new()) };
        if current.kept {
            self.sources.memory.bundle_path().clone_into(&mut current.source);
            return self.complain(Vec::new());
        }
        let object = current.source.display().to_string();
        let reason = "is gone; what was read from it stays in force until the agent ends".into();
        self.complain(vec![Problem { object, reason }]);
    }

    /// Keeps the bundle in force for the next boot, and removes it from where it lies unencrypted on the disk.
    async fn keep(&mut self) {
        let Sources { places, memory } = &self.sources;
        let Some(current) = &mut self.current else { return };
        // What is kept in memory is kept for no next boot, and systemd-creds refuses to.
        if places.is_only() || bundle::in_memory() {
            return;
        }
        let mut failed = None;
        if !current.kept {
            let kept = memory.keep(current.text.reveal()).await;
            current.kept = kept.is_ok();
            failed = kept.err().map(|error| chain(&error).to_string());
        }
        if current.kept && places.is_plain_on_disk(&current.source) {
            let removed = files::remove(&current.source);
            failed = removed.err().map(|error| chain(&error).to_string());
        }
        let object = memory.bundle_path().display().to_string();
        let reason = |why| format!("the bundle is not kept, encrypted, for the next boot: {why}");
        let unkept = failed.map(|why| Problem { object, reason: reason(why) });
        if unkept != self.unkept {
            warn_of(unkept.as_slice());
            self.unkept = unkept;
            self.tell();
        }
    }

    /// Says what is wrong, and goes on as before.
    fn complain(&mut self, problems: Vec<Problem>) {
        warn_of(&problems);
        self.problems = problems;
        self.tell();
    }

    fn tell(&mut self) {
        let certificate_ends = self.current.as_ref().and_then(|current| current.ends);
        let warnings = certificate_ends.and_then(|ends| warning(ends, unix_now()));
        if self.warned != warnings {
            warn_of(warnings.as_slice());
            self.warned.clone_from(&warnings);
        }
        let keeps_var = self.current.as_ref().is_some_and(|current| current.keeps_var);
        let kept = bundle::kept().and_then(|kept| kept.judged(keeps_var).problem());
        let warnings = warnings.into_iter().chain(kept).collect();
        let identity = self.current.as_ref().map(|current| current.identity.clone());
        let source = self.current.as_ref().map(|current| current.source.display().to_string());
        let problems = self.problems.iter().chain(&self.unkept).cloned().collect();
        let bundle = BundleStatus { source, problems, warnings, certificate_ends };
        self.report.set_bundle(identity, bundle);
    }
}

fn warn_of(problems: &[Problem]) {
    for problem in problems {
        warn!(object = %problem.object, "node bundle: {problem}");
    }
}
