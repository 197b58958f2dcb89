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
use trilith_core::{ceph, frr, libvirt, network, osds, patroni, pools, services, zookeeper};

use crate::api;
use crate::exit::Exit;
use crate::peers::{Membership, Talk};
use crate::reconcile::{self, After, Host, Inputs, Pulses};
use crate::report::console::Console;
use crate::report::log::Reader;
use crate::report::manager::{self, Manager, watchdog};
use crate::report::{self, Report};
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
mod onlooker; // what a person at the console learns of who this machine is

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

/// The subjects, as the status names them.
const SUBJECTS: [&str; 9] =
    ["network", "services", "zookeeper", "ceph", "osds", "pools", "patroni", "frr", "libvirt"];

/// The desired state of each subject, on its way to the loops.
pub(crate) struct Wishes {
    network: watch::Sender<Option<network::Desired>>,
    services: watch::Sender<Option<services::Desired>>,
    peers: watch::Sender<Option<Membership>>,
    zookeeper: watch::Sender<Option<zookeeper::Desired>>,
    ceph: watch::Sender<Option<ceph::Desired>>,
    osds: watch::Sender<Option<osds::Desired>>,
    pools: watch::Sender<Option<pools::Desired>>,
    patroni: watch::Sender<Option<patroni::Desired>>,
    frr: watch::Sender<Option<frr::Desired>>,
    libvirt: watch::Sender<Option<libvirt::Desired>>,
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
    let report = Report::new(&SUBJECTS);
    info!(version = env!("CARGO_PKG_VERSION"), "trilithd starts");

    let (talk, peers) = Talk::new();
    let ensemble = Ensemble::new(talk.views(), talk.dialer());
    let monitors = Monitors::new(talk.views());
    let storage = Storage::new(report.subscribe());
    let database = Database::new(talk.views(), talk.dialer());
    let router = Router::new(talk.views());
    let mut loops = Loops { tasks: JoinSet::new(), pulses: Pulses::new(), report: &report };
    let wishes = Wishes {
        network: loops.start::<Network, _>("network", Netlink::new(), After::Nothing),
        // One missing NIC must not keep the operator from logging in: settled is enough.
        services: loops.start::<Services, _>("services", Systemd::new(), After::Settled("network")),
        peers,
        // Not after the services: its server waits for what this prepares.
        zookeeper: loops.start::<ZooKeeper, _>("zookeeper", ensemble, After::Settled("network")),
        ceph: loops.start::<Ceph, _>("ceph", monitors, After::Settled("network")),
        osds: loops.start::<Osds, _>("osds", Disks::new(), After::Settled("network")),
        pools: loops.start::<Pools, _>("pools", storage, After::Settled("network")),
        patroni: loops.start::<Patroni, _>("patroni", database, After::Settled("network")),
        frr: loops.start::<Frr, _>("frr", router, After::Settled("network")),
        libvirt: loops.start::<Libvirt, _>("libvirt", Hypervisor::new(), After::Settled("network")),
    };
    let Loops { mut tasks, pulses, report: _ } = loops;
    let sources = Sources { places: options.places, memory: options.memory };
    let follower = Follower::new(sources, wishes, report.clone(), console.clone()).await?;
    let status = report.subscribe();
    tasks.spawn_local(talk.run(report.clone()));
    tasks.spawn_local(async move { api::serve(listener, status).await.context("the API failed") });
    tasks.spawn_local(follower.run(manager.clone()));
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
    report: &'a Report,
}

impl Loops<'_> {
    /// Starts the loop of one subject. It waits until it is told what to want.
    fn start<S, H>(
        &mut self,
        name: &'static str,
        host: H,
        after: After,
    ) -> watch::Sender<Option<S::Desired>>
    where
        S: Subject + 'static,
        H: Host<S> + 'static,
    {
        let (wish, desired) = watch::channel(None);
        let inputs = Inputs { desired, after, pulse: self.pulses.add(name) };
        let report = self.report.subject(name);
        self.tasks.spawn_local(async move {
            reconcile::run::<S, H>(host, inputs, report).await;
            Ok(())
        });
        wish
    }
}

async fn show(report: Report, console: Console, manager: Manager) -> anyhow::Result<()> {
    report::show(&report, &console, &manager).await;
    Ok(())
}
