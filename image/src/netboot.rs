//! `trilith netboot`: servers start from the network, with nothing else on it.

mod child; // dnsmasq while it runs
mod desk; // who asked for which bundle, and what was decided
mod dnsmasq; // its configuration
mod lan; // the network that is served
mod page; // the live table
mod release; // what is served
mod reported; // which nodes have their bundles, across restarts
mod server; // HTTP

mod terminal; // what the operator sees and says

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use trilith_core::names::NodeId;
use trilith_core::netboot;
use zeroize::Zeroizing;

use crate::cluster::{Access, Cluster};
use crate::config;
use crate::exit::{self, Exit};
use child::Child;
use desk::Desk;
use dnsmasq::{Dhcp, Plan};
use lan::Lan;
use release::Release;
use reported::Reported;
use server::Office;

/// Start servers from the network, and hand out their bundles.
///
/// Answers DHCP itself or beside the DHCP server that is there, sends the UKI
/// by UEFI HTTP boot or by iPXE, and the root image by plain HTTP. No secret
/// travels in the clear: each node makes a key and shows its fingerprint on its
/// console, and gets its bundle encrypted to it. A node must be found by its
/// `match`, by MAC address, serial number or UUID; whoever is in the same
/// network can claim those, so compare the fingerprint before you say yes.
///
/// Firmware and nodes are served over IPv4 alone. Needs root, dnsmasq, and for
/// UEFI PXE the package ipxe.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The cluster file.
    file: PathBuf,
    /// The network interface to serve; it needs an IPv4 address.
    #[arg(long, value_name = "INTERFACE")]
    interface: String,
    /// `proxy`: another server gives the addresses; FIRST-LAST: give these.
    #[arg(long, value_name = "proxy|FIRST-LAST", default_value = "proxy")]
    dhcp: Dhcp,
    /// Whether a person says yes to each node, or `match` alone decides.
    #[arg(long, value_enum, default_value = "ask")]
    approve: Rule,
    /// Hand out the bundles of these nodes alone.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', value_parser = config::node_id)]
    nodes: Vec<NodeId>,
    /// Hand out a bundle again to a node that has reported in, as diskless
    /// nodes need it at each boot, but for those with a `var_disk`.
    #[arg(long)]
    again: bool,
    /// The folder with the release, as `trilith build` leaves it.
    #[arg(long, value_name = "DIR", default_value = "target/image")]
    image: PathBuf,
    /// iPXE for UEFI. Without it there is UEFI HTTP boot alone. Debian's is not
    /// signed: with Secure Boot on, use UEFI HTTP boot, or name a signed one.
    #[arg(long, value_name = "FILE", default_value = "/usr/lib/ipxe/snponly.efi")]
    ipxe: PathBuf,
    /// The TCP port for HTTP.
    #[arg(long, value_name = "PORT", default_value_t = netboot::PORT)]
    port: u16,
    #[command(flatten)]
    access: Access,
}

/// What it takes to get a bundle, beside fitting hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rule {
    /// A person says yes.
    Ask,
    /// Nothing.
    Auto,
}

/// Serves until it is interrupted.
pub(crate) fn run(options: &Options) -> Result<Exit> {
    let release = Release::find(&options.image)?;
    let lan = Lan::of(&options.interface)?;
    if let Err(reason) = options.dhcp.fits(&lan) {
        return Ok(exit::usage(&reason));
    }
    let office = match open(options, release)? {
        Ok(office) => Arc::new(office),
        Err(exit) => return Ok(exit),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start")?;
    let outcome = runtime.block_on(serve(options, &lan, &office));
    // The thread that reads what the operator types waits for a line that may never come.
    runtime.shutdown_background();
    outcome.map(|()| Exit::Ok)
}

/// Makes the bundles, which are all that is needed of the secrets, and remembers who has one already.
fn open(options: &Options, release: Release) -> Result<Result<Office, Exit>> {
    let cluster = match Cluster::read(&options.file)? {
        Ok(cluster) => cluster,
        Err(exit) => return Ok(Err(exit)),
    };
    let strange = options.nodes.iter().find(|id| cluster.config().node(**id).is_none());
    if let Some(id) = strange {
        return Ok(Err(exit::usage(&format!("{} has no node {id}", options.file.display()))));
    }
    let all = || cluster.config().nodes.keys().copied().collect();
    let nodes = if options.nodes.is_empty() { all() } else { options.nodes.clone() };
    let bundles = match cluster.bundles(&nodes, &options.access)? {
        Ok(bundles) => bundles,
        Err(exit) => return Ok(Err(exit)),
    };
    let reported = Reported::open(&options.file)?;
    let known = reported.nodes().clone();
    let desk = Desk::new(
        cluster.config(),
        &nodes.into_iter().collect(),
        options.approve,
        options.again,
        known,
    );
    let bundles = bundles.into_iter().map(|(node, text)| (node, Zeroizing::new(text)));
    Ok(Ok(Office::new(release, bundles.collect(), desk, reported)))
}

async fn serve(options: &Options, lan: &Lan, office: &Arc<Office>) -> Result<()> {
    let url = format!("http://{}:{}/", lan.address.addr(), options.port);
    let listener = tokio::net::TcpListener::bind((lan.address.addr(), options.port)).await;
    let listener = listener.with_context(|| format!("cannot listen at {url}"))?;
    let folder = tempfile::Builder::new().prefix("trilith-netboot-").tempdir();
    let folder = folder.context("cannot make a folder")?;
    let ipxe = child::lay_out(folder.path(), &options.ipxe)?;
    if !ipxe {
        let missing = options.ipxe.display();
        eprintln!("trilith: no {missing} (package ipxe): UEFI HTTP boot alone, no PXE");
    }
    let plan = Plan { lan, dhcp: &options.dhcp, url: &url, folder: folder.path(), ipxe };
    let mut dnsmasq = Child::start(folder.path(), &dnsmasq::config(&plan))?;
    let router = server::router(Arc::clone(office), &url);
    let mut lines = terminal::typed();
    let mut page = terminal::Page::new(office, &url);
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut served = std::pin::pin!(server::serve(listener, router));
    loop {
        // Each arm may be left at any time: a line is taken whole or not at all, and the server is one future that
        // goes on.
        tokio::select! {
            ended = &mut served => return ended.context("the HTTP server ended"),
            line = dnsmasq.line() => office.tell_dhcp(&line?),
            Some(line) = lines.recv() => office.typed(&line),
            () = page.due() => page.draw()?,
            stop = tokio::signal::ctrl_c() => return stop.context("cannot wait for an interrupt"),
            _ = terminate.recv() => return Ok(()),
        }
    }
}
