//! The commands.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use tokio::sync::watch;
use trilith_core::ceph::Ceph;
use trilith_core::frr::Frr;
use trilith_core::identity::Machine;
use trilith_core::libvirt::Libvirt;
use trilith_core::network::{self, Network};
use trilith_core::osds::Osds;
use trilith_core::patroni::Patroni;
use trilith_core::services::Services;
use trilith_core::status::{Problem, text};
use trilith_core::subject::{Plan, Subject};
use trilith_core::zookeeper::ZooKeeper;

use crate::api::{self, Ask, Wait, client};
use crate::bundle::{self, Assignment, Depth, Findings, Reading};
use crate::daemon;
use crate::exit::Exit;
use crate::peers::{Dialer, ask_once};
use crate::reconcile::{self, Host};
use crate::report::{Report, log, unix_now};
use crate::system::bundle::{Places, endorsement};
use crate::system::ceph::Monitors;
use crate::system::firmware;
use crate::system::frr::Router;
use crate::system::libvirt::Hypervisor;
use crate::system::memory::{self, Memory};
use crate::system::netlink::Netlink;
use crate::system::osds::Disks;
use crate::system::patroni::Database;
use crate::system::systemd::Systemd;
use crate::system::zookeeper::Ensemble;

/// Brings a Trilith node to its desired state and keeps it there.
#[derive(Debug, Parser)]
#[command(name = "trilithd", version, max_term_width = 80)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent, until SIGTERM.
    Run {
        #[command(flatten)]
        bundle: BundleArg,
        #[command(flatten)]
        socket: SocketArg,
    },
    /// Check the node bundle, and whether this host has what it asks for.
    ///
    /// Changes nothing. Ends with 3 if the bundle is missing or wrong, with 5
    /// if the host lacks something, such as a NIC.
    #[command(verbatim_doc_comment)]
    Check {
        #[command(flatten)]
        bundle: BundleArg,
    },
    /// Print what the agent would do now.
    ///
    /// Changes nothing. Ends with 0 if there is nothing to do, with 4 if there
    /// are steps or problems, with 3 if the bundle is missing or wrong.
    #[command(verbatim_doc_comment)]
    Plan {
        #[command(flatten)]
        bundle: BundleArg,
    },
    /// Show what the running agent says about the node.
    Status {
        #[command(flatten)]
        socket: SocketArg,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Wait for this state first; end with 4 if it does not come in time.
        #[arg(long, value_name = "STATE")]
        wait: Option<Wait>,
        /// How long to wait, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait")]
        timeout: u64,
        /// Show only this subject, and wait only for it.
        #[arg(long, value_name = "NAME")]
        subject: Option<String>,
    },
}

#[derive(Debug, Args)]
struct BundleArg {
    /// Read the node bundle from this file, and look nowhere else.
    #[arg(long = "bundle", value_name = "PATH")]
    bundle: Option<PathBuf>,
    /// The folder in which the agent remembers whom the machine belongs to.
    #[arg(long, value_name = "PATH", default_value = memory::FOLDER)]
    state: PathBuf,
}

#[derive(Debug, Args)]
struct SocketArg {
    /// The agent's socket.
    #[arg(long = "socket", value_name = "PATH", default_value = api::SOCKET)]
    socket: PathBuf,
}

/// Carries out a command.
pub(crate) fn run(cli: Cli) -> anyhow::Result<Exit> {
    // One thread: everything that the agent does is waiting, and a second thread costs memory.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Run { bundle, socket } => {
                let reader = log::start();
                let (places, memory) = bundle.places()?;
                let socket = socket.socket;
                daemon::run(daemon::Options { places, memory, socket, reader }).await
            }
            Command::Check { bundle } => check(&bundle).await,
            Command::Plan { bundle } => Box::pin(plan(&bundle)).await,
            Command::Status { socket, json, wait, timeout, subject } => {
                let timeout = wait.map(|_| timeout);
                status(&socket, json, Ask { wait, timeout, subject }).await
            }
        }
    })
}

impl BundleArg {
    fn places(&self) -> anyhow::Result<(Places, Memory)> {
        let made = Places::new(self.bundle.as_deref(), &self.state)
            .and_then(|places| Ok((places, Memory::new(&self.state)?)));
        made.context("cannot make the paths absolute")
    }
}

/// The bundle that counts, or every reason why there is none.
async fn assignment(arg: &BundleArg) -> anyhow::Result<Result<Assignment, Exit>> {
    let (places, memory) = arg.places()?;
    let Findings { reading, told } =
        bundle::search(&places, &memory, &machine().await, Depth::All).await;
    Ok(match reading {
        Reading::Good(found) => {
            for problem in &found.problems {
                complain(problem);
            }
            let node = &found.assignment.identity;
            say(format!(
                "node {} (ID {}) of cluster {}, from {}",
                node.name,
                node.id,
                node.cluster,
                found.source.display()
            ));
            Ok(found.assignment)
        }
        Reading::Bad { problems } => {
            for problem in problems {
                complain(problem);
            }
            Err(Exit::BadBundle)
        }
        Reading::Nothing => {
            complain("there is no node bundle; looked for one");
            for line in told {
                complain(format_args!("  {line}"));
            }
            Err(Exit::BadBundle)
        }
    })
}

/// What tells this machine from others; without links if the kernel does not show them.
async fn machine() -> Machine {
    let observed =
        Host::<Network>::observe(&mut Netlink::new(), &network::Desired::default()).await;
    let links = observed.map(|observed| observed.links).unwrap_or_default();
    Machine::new(&firmware::read(), &links, endorsement())
}

async fn check(arg: &BundleArg) -> anyhow::Result<Exit> {
    let assignment = match assignment(arg).await? {
        Ok(assignment) => assignment,
        Err(exit) => return Ok(exit),
    };
    say("the bundle is good");
    let plan = look::<Network, _>(Netlink::new(), &assignment.network).await?;
    for problem in &plan.problems {
        complain(format_args!("this host: {problem}"));
    }
    if plan.problems.is_empty() {
        say("this host has what it asks for");
        Ok(Exit::Ok)
    } else {
        Ok(Exit::DoesNotFit)
    }
}

async fn plan(arg: &BundleArg) -> anyhow::Result<Exit> {
    let assignment = match assignment(arg).await? {
        Ok(assignment) => assignment,
        Err(exit) => return Ok(exit),
    };
    // Asked now, as the running agent asks them all the time.
    let dialer =
        Dialer::new(&assignment.peers).context("this node's certificate cannot be used")?;
    let (_, views) = watch::channel(ask_once(&assignment.peers.circle, &dialer).await);
    let (_, dialer) = watch::channel(Some(dialer));
    let ensemble = Ensemble::new(views.clone(), dialer.clone());
    let database = Database::new(views.clone(), dialer, Report::new().subscribe());
    let monitors = Monitors::new(views.clone());
    // Ceph's pools are not looked at: only a monitor that leads does, and that it leads is known to the agent that runs.
    let all = [
        would::<Network, _>(Netlink::new(), &assignment.network).await?,
        would::<Services, _>(Systemd::new(), &assignment.services).await?,
        would::<ZooKeeper, _>(ensemble, &assignment.zookeeper).await?,
        would::<Ceph, _>(monitors, &assignment.ceph).await?,
        would::<Osds, _>(Disks::new(), &assignment.osds).await?,
        would::<Patroni, _>(database, &assignment.patroni).await?,
        would::<Frr, _>(Router::new(views), &assignment.frr).await?,
        would::<Libvirt, _>(Hypervisor::new(), &assignment.libvirt).await?,
    ];
    Ok(if all.into_iter().all(|is| is) { Exit::Ok } else { Exit::NotConverged })
}

/// Prints what would be done for one subject, and says whether that is nothing.
async fn would<S: Subject, H: Host<S>>(host: H, desired: &S::Desired) -> anyhow::Result<bool> {
    let plan = look::<S, H>(host, desired).await?;
    show(S::NAME, &plan.steps, &plan.problems);
    Ok(plan.is_converged())
}

async fn look<S: Subject, H: Host<S>>(
    mut host: H,
    desired: &S::Desired,
) -> anyhow::Result<Plan<S::Step>> {
    let look = reconcile::look::<S, H>(&mut host, desired).await;
    Ok(look.map_err(anyhow::Error::from_boxed)?.plan)
}

fn show<S: Display>(subject: &str, steps: &[S], problems: &[Problem]) {
    if steps.is_empty() && problems.is_empty() {
        say(format!("{subject}: nothing to do"));
    }
    for step in steps {
        say(format!("{subject}: {step}"));
    }
    for problem in problems {
        say(format!("{subject}: in the way: {problem}"));
    }
}

async fn status(socket: &SocketArg, json: bool, ask: Ask) -> anyhow::Result<Exit> {
    let status = client::status(&socket.socket, &ask).await?;
    if json {
        say(serde_json::to_string_pretty(&status)?);
    } else {
        say(text::full(&status, unix_now()).trim_end());
    }
    Ok(if ask.is_over(&status) { Exit::Ok } else { Exit::NotConverged })
}

/// Data, for standard output.
fn say(text: impl Display) {
    // Whoever reads may have seen enough, as head(1).
    let _closed = writeln!(io::stdout(), "{text}");
}

/// What is wrong, for standard error.
fn complain(text: impl Display) {
    eprintln!("trilithd: {text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_its_help_fits_80_columns() {
        Cli::command().debug_assert();
        let mut cli = Cli::command();
        cli.build();
        for command in std::iter::once(&mut cli.clone()).chain(cli.get_subcommands_mut()) {
            let help = command.render_long_help().to_string();
            let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(long.is_empty(), "{long:#?}");
        }
    }
}
