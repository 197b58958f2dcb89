//! The node bundle as it comes and changes. The last good one stays in force until a better one is there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tracing::{info, warn};
use trilith_core::belonging::Belonging;
use trilith_core::network;
use trilith_core::secrets::Secret;
use trilith_core::secrets::certificate::{Certificate, warning};
use trilith_core::sighting::Sighting;
use trilith_core::status::{BundleStatus, NodeIdentity, Problem};

use super::Wishes;
use crate::bundle::{self, Assignment, Found, Reading};
use crate::reconcile::{Host, chain};
use crate::report::console::Console;
use crate::report::manager::Manager;
use crate::report::{Report, unix_now};
use crate::system::bundle::Places;
use crate::system::files::{self, Watch};
use crate::system::firmware;
use crate::system::memory::Memory;
use crate::system::netlink::Netlink;

/// NICs that appear together are shown together: it spares a person a screen of text for each.
const GATHER: Duration = Duration::from_secs(1);

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
    wishes: Wishes,
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
}

impl Follower {
    /// Listens for changes first, then reads: no change falls between.
    pub(super) async fn new(
        sources: Sources,
        wishes: Wishes,
        report: Report,
        console: Console,
    ) -> anyhow::Result<Self> {
        let files = Watch::new(sources.places.paths().to_vec())?;
        let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let onlooker = Onlooker { netlink: Netlink::new(), console, shown: String::new() };
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
        };
        follower.read();
        if follower.current.is_none() {
            follower.read_kept().await;
        }
        Ok(follower)
    }

    /// Follows the bundle until the agent stops.
    pub(super) async fn run(mut self, manager: Manager) -> anyhow::Result<()> {
        loop {
            let unknown = self.current.is_none();
            if unknown {
                self.onlooker.look(&self.sources.places).await;
            }
            self.keep().await;
            // Cancel safety: `Watch::changed` and `Signal::recv` say of themselves that they are; the onlooker
            // only waits, for something that stays true until it looks.
            tokio::select! {
                changed = self.files.changed() => {
                    changed?;
                    self.read();
                }
                _ = self.hangup.recv() => {
                    let _reloading = manager.reloading();
                    self.read();
                }
                () = self.onlooker.news(), if unknown => {}
                () = sleep(KEEP_AGAIN), if self.unkept.is_some() => {}
                () = sleep(CLOCK) => self.tell(),
            }
        }
    }

    /// Reads what somebody has put in place.
    fn read(&mut self) {
        match bundle::read(&self.sources.places, &self.sources.memory) {
            Reading::Good(found) => self.adopt(*found, Vec::new()),
            Reading::Bad { problems } => self.complain(problems),
            Reading::Nothing => self.miss(),
        }
    }

    /// Reads what was kept from earlier: nothing, or nothing good, is in place at the start. What is wrong with that
    /// stays told.
    async fn read_kept(&mut self) {
        if self.sources.places.is_only() {
            return;
        }
        match bundle::read_kept(&self.sources.memory).await {
            Reading::Good(found) => {
                let problems = std::mem::take(&mut self.problems);
                self.adopt(*found, problems);
            }
            Reading::Bad { mut problems } => {
                problems.splice(0..0, std::mem::take(&mut self.problems));
                self.complain(problems);
            }
            Reading::Nothing => {}
        }
    }

    /// Takes a bundle into force.
    fn adopt(&mut self, found: Found, mut problems: Vec<Problem>) {
        let Found { source, text, assignment, joins } = found;
        let Assignment {
            identity,
            network,
            services,
            peers,
            zookeeper,
            ceph,
            osds,
            pools,
            patroni,
            frr,
            libvirt,
        } = assignment;
        info!(node = identity.id, source = %source.display(), "node bundle read");
        // First remembered, then followed.
        let forgotten = joins.and_then(|joins| self.join(&joins));
        warn_of(forgotten.as_slice());
        problems.extend(forgotten);
        let kept = source == self.sources.memory.bundle_path()
            || self.current.as_ref().is_some_and(|before| before.kept && before.text == text);
        let certificate = Certificate::read(&peers.identity.certificate).ok();
        let ends = certificate.and_then(|it| u64::try_from(it.not_after).ok());
        self.current = Some(InForce { identity, source, text, kept, ends });
        self.problems = problems;
        self.tell();
        // The loops wake only for what is different.
        set(&self.wishes.network, network);
        set(&self.wishes.services, services);
        set(&self.wishes.peers, peers);
        set(&self.wishes.zookeeper, zookeeper);
        set(&self.wishes.ceph, ceph);
        set(&self.wishes.osds, osds);
        set(&self.wishes.pools, pools);
        set(&self.wishes.patroni, patroni);
        set(&self.wishes.frr, frr);
        set(&self.wishes.libvirt, libvirt);
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
        if places.is_only() {
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
        let warnings = warnings.into_iter().collect();
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

fn set<D: PartialEq>(wish: &tokio::sync::watch::Sender<Option<D>>, desired: D) {
    let desired = Some(desired);
    wish.send_if_modified(|old| {
        let news = *old != desired;
        *old = desired;
        news
    });
}

/// Shows on the console which machine this is, for as long as nobody has said what it should be.
struct Onlooker {
    netlink: Netlink,
    console: Console,
    shown: String,
}

impl Onlooker {
    /// Looks, and shows what is new.
    async fn look(&mut self, places: &Places) {
        let links = match Host::<network::Network>::observe(
            &mut self.netlink,
            &network::Desired::default(),
        )
        .await
        {
            Ok(observed) => observed.links,
            Err(error) => {
                warn!(error = %chain(&*error), "cannot look at the links");
                Vec::new()
            }
        };
        let places = places.paths().iter().map(|path| path.display().to_string()).collect();
        let text = Sighting { firmware: firmware::read(), links, places }.text();
        if text != self.shown {
            info!("{text}");
            self.console.say("no node bundle");
            self.console.show(&text);
            self.shown = text;
        }
    }

    /// Resolves when the links may look different than they did. Cancel-safe: a change stays one until the
    /// next look.
    async fn news(&mut self) {
        Host::<network::Network>::changed(&mut self.netlink).await;
        sleep(GATHER).await;
    }
}
