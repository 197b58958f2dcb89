//! The node bundle as it comes and changes. The last good one stays in force until a better one is there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tracing::{info, warn};
use trilith_core::network;
use trilith_core::sighting::Sighting;
use trilith_core::status::{BundleStatus, NodeIdentity, Problem};

use super::Wishes;
use crate::bundle::{self, Assignment, Reading};
use crate::reconcile::{Host, chain};
use crate::report::Report;
use crate::report::console::Console;
use crate::report::manager::Manager;
use crate::system::bundle::Places;
use crate::system::files::Watch;
use crate::system::firmware;
use crate::system::netlink::Netlink;

/// NICs that appear together are shown together: it spares a person a screen of text for each.
const GATHER: Duration = Duration::from_secs(1);

/// Reads the bundle and passes on what it means.
pub(super) struct Follower {
    places: Places,
    files: Watch,
    hangup: Signal,
    wishes: Wishes,
    report: Report,
    /// The bundle in force.
    current: Option<(NodeIdentity, PathBuf)>,
    onlooker: Onlooker,
}

impl Follower {
    /// Listens for changes first, then reads: no change falls between.
    pub(super) fn new(
        places: Places,
        wishes: Wishes,
        report: Report,
        console: Console,
    ) -> anyhow::Result<Self> {
        let files = Watch::new(places.paths().to_vec())?;
        let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let onlooker = Onlooker { netlink: Netlink::new(), console, shown: String::new() };
        let mut follower = Self { places, files, hangup, wishes, report, current: None, onlooker };
        follower.read();
        Ok(follower)
    }

    /// Follows the bundle until the agent stops.
    pub(super) async fn run(mut self, manager: Manager) -> anyhow::Result<()> {
        loop {
            let unknown = self.current.is_none();
            if unknown {
                self.onlooker.look(&self.places).await;
            }
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
            }
        }
    }

    /// Reads what is there now.
    fn read(&mut self) {
        match bundle::read(&self.places) {
            Reading::Good { source, assignment } => self.adopt(source, *assignment),
            Reading::Bad { problems } => self.complain(problems),
            Reading::Nothing => {
                let gone = |(_, source): &(NodeIdentity, PathBuf)| Problem {
                    object: source.display().to_string(),
                    reason: "is gone; what was read from it stays in force until the agent ends"
                        .into(),
                };
                self.complain(self.current.iter().map(gone).collect());
            }
        }
    }

    fn adopt(&mut self, source: PathBuf, assignment: Assignment) {
        let Assignment { identity, network, services, peers, zookeeper } = assignment;
        info!(node = identity.id, source = %source.display(), "node bundle read");
        self.current = Some((identity, source));
        self.tell(Vec::new());
        // The loops wake only for what is different.
        set(&self.wishes.network, network);
        set(&self.wishes.services, services);
        set(&self.wishes.peers, peers);
        set(&self.wishes.zookeeper, zookeeper);
    }

    /// Says what is wrong, and goes on as before.
    fn complain(&self, problems: Vec<Problem>) {
        for problem in &problems {
            warn!(object = %problem.object, "node bundle: {problem}");
        }
        self.tell(problems);
    }

    fn tell(&self, problems: Vec<Problem>) {
        let identity = self.current.as_ref().map(|(identity, _)| identity.clone());
        let source = self.current.as_ref().map(|(_, source)| source.display().to_string());
        self.report.set_bundle(identity, BundleStatus { source, problems });
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
