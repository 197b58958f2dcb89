//! What runs, and how it hangs together: one loop per subject, the bundle that drives them, the views of the
//! status, the local API and the watchdog. All on one thread.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tracing::info;
use trilith_core::ceph::Ceph;
use trilith_core::frr::Frr;
use trilith_core::libvirt::Libvirt;
use trilith_core::network::Network;
use trilith_core::osds::Osds;
use trilith_core::patroni::Patroni;
use trilith_core::pools::Pools;
use trilith_core::services::Services;
use trilith_core::subject::Subject;
use trilith_core::zookeeper::ZooKeeper;

use crate::api;
use crate::bundle::Assignment;
use crate::diagnosis;
use crate::exit::Exit;
use crate::peers::Talk;
use crate::reconcile::{self, After, Host, Inputs, Pulses};
use crate::report::console::Console;
use crate::report::log::Reader;
use crate::report::manager::{self, Manager, watchdog};
use crate::report::{self, Report};
use crate::share;
use crate::system::bundle::Places;
use crate::system::ceph::Monitors;
use crate::system::frr::Router;
use crate::system::libvirt::Hypervisor;
use crate::system::memory::Memory;
use crate::system::netlink::Netlink;
use crate::system::osds::Disks;
use crate::system::patroni::Database;
use crate::system::pools::Storage;
use crate::system::systemd::Systemd;
use crate::system::zookeeper::Ensemble;

mod follow; // the bundle as it comes and changes
mod installation; // the wish to be installed on a disk
mod onlooker; // what a person at the console learns of who this machine is
mod trial; // what the gate says of a release on trial
mod updates; // what the updater says

use follow::{Follower, Sources};

/// What the operator chose.
pub(crate) struct Options {
    /// Where the bundle may lie.
    pub(crate) places: Places,
    /// What is remembered on the disk.
    pub(crate) memory: Memory,
    /// Where the API listens.
    pub(crate) socket: PathBuf,
    /// Who reads the log, and so whether there is a console to write on.
    pub(crate) reader: Reader,
}

/// Passes on to one loop its part of what a bundle makes of this machine.
type Wish = Box<dyn Fn(&Assignment)>;

/// The loop wakes only for what is different.
fn wish<D: Clone + PartialEq + 'static>(
    desired: watch::Sender<Option<D>>,
    part: fn(&Assignment) -> &D,
) -> Wish {
    Box::new(move |assignment| {
        let part = part(assignment);
        desired.send_if_modified(|old| {
            let news = old.as_ref() != Some(part);
            if news {
                *old = Some(part.clone());
            }
            news
        });
    })
}

/// Runs until SIGTERM or SIGINT. What was brought up stays up: the node works on without its agent.
pub(crate) async fn run(options: Options) -> anyhow::Result<Exit> {
    LocalSet::new().run_until(run_here(options)).await
}

async fn run_here(options: Options) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let listener = api::listen(&options.socket)?;
    let manager = Manager::default();
    let console = Console::start(options.reader);
    let report = Report::new();
    info!(version = env!("CARGO_PKG_VERSION"), "trilithd starts");

    let (talk, peers) = Talk::new();
    let mut loops = Loops {
        tasks: JoinSet::new(),
        pulses: Pulses::new(),
        wishes: vec![wish(peers, |all| &all.peers)],
        report: &report,
    };
    loops.start_all(&talk);
    let Loops { mut tasks, pulses, wishes, report: _ } = loops;
    let sources = Sources { places: options.places, memory: options.memory };
    let follower = Follower::new(sources, wishes, report.clone(), console.clone()).await?;
    let status = report.subscribe();
    let diagnosis = diagnosis::routes(report.subscribe(), talk.redactor());
    let more = diagnosis.merge(share::local(talk.dialer()));
    tasks.spawn_local(talk.run(report.clone()));
    let served = api::serve(listener, status, more);
    tasks.spawn_local(async move { served.await.context("the API failed") });
    tasks.spawn_local(follower.run(manager.clone()));
    tasks.spawn_local(trial::follow(report.clone()));
    tasks.spawn_local(show(report, console, manager.clone()));
    tasks.spawn_local(watchdog(pulses));

    // Cancel safety: signals and finished tasks stay to be received; this select runs once.
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(Exit::Ok),
        _ = interrupt.recv() => Ok(Exit::Ok),
        Some(ended) = tasks.join_next() => match ended {
            Ok(Ok(())) => Err(anyhow!("a part of the agent ended by itself")),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(anyhow!(error).context("a part of the agent failed")),
        },
    };
    manager::stopping();
    info!("trilithd stops; the network stays as it is");
    outcome
}

/// The loops as they are started.
struct Loops<'a> {
    tasks: JoinSet<anyhow::Result<()>>,
    pulses: Pulses,
    wishes: Vec<Wish>,
    report: &'a Report,
}

impl Loops<'_> {
    /// Every subject.
    fn start_all(&mut self, talk: &Talk) {
        let network = After::Settled(Network::NAME);
        self.start::<Network, _>(Netlink::new(), After::Nothing, |all| &all.network);
        // One missing NIC must not keep the operator from logging in: settled is enough.
        self.start::<Services, _>(Systemd::new(), network, |all| &all.services);
        // These do not come after the services: what those start waits for what these prepare.
        let ensemble = Ensemble::new(talk.views(), talk.dialer());
        self.start::<ZooKeeper, _>(ensemble, network, |all| &all.zookeeper);
        self.start::<Ceph, _>(Monitors::new(talk.views()), network, |all| &all.ceph);
        self.start::<Osds, _>(Disks::new(), network, |all| &all.osds);
        let storage = Storage::new(self.report.subscribe());
        self.start::<Pools, _>(storage, network, |all| &all.pools);
        let status = self.report.subscribe();
        let database = Database::new(talk.views(), talk.dialer(), status);
        self.start::<Patroni, _>(database, network, |all| &all.patroni);
        self.start::<Frr, _>(Router::new(talk.views()), network, |all| &all.frr);
        self.start::<Libvirt, _>(Hypervisor::new(), network, |all| &all.libvirt);
    }

    /// Starts the loop of one subject. It waits until it is told what to want.
    fn start<S, H>(&mut self, host: H, after: After, part: fn(&Assignment) -> &S::Desired)
    where
        S: Subject + 'static,
        H: Host<S> + 'static,
    {
        let (sender, desired) = watch::channel(None);
        let inputs = Inputs { desired, after, pulse: self.pulses.add(S::NAME) };
        let report = self.report.subject(S::NAME);
        self.wishes.push(wish(sender, part));
        self.tasks.spawn_local(async move {
            reconcile::run::<S, H>(host, inputs, report).await;
            Ok(())
        });
    }
}

async fn show(report: Report, console: Console, manager: Manager) -> anyhow::Result<()> {
    report::show(&report, &console, &manager).await;
    Ok(())
}
