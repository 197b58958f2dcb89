//! `trilith-netboot`, in the initrd of a machine that was started from the network: fetches the release's disk into
//! memory, so that the boot goes on from it as from any disk, and asks for the machine's bundle.

mod bundle; // the machine's bundle
mod dhcp; // DHCP messages
mod disk; // the disk in memory
mod download; // the disk over HTTP
mod http; // requests
mod lease; // an address, and the servers' URLs
mod links; // NICs
mod pauses; // between tries
mod sparse; // a file with holes

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use http::Source;
use links::Links;
use trilith_core::boot::{self, Loader};
use trilith_core::efi::BootedFrom;
use trilith_core::netboot::SERVER;
use trilith_metal::efi;

/// Fetches the image and the bundle of a machine that was started from the network: its firmware says so, or the kernel's
/// command line names a server. On any other it does nothing.
#[derive(Debug, Parser)]
#[command(name = "trilith-netboot", version, max_term_width = 80)]
struct Args {
    /// The kernel's command line: `roothash=`, and `trilith.netboot=URL` for each server that DHCP does not name.
    #[arg(long, value_name = "FILE", default_value = "/proc/cmdline")]
    command_line: PathBuf,
    /// Where what was found is left for the root.
    #[arg(long, value_name = "DIR", default_value = boot::FOLDER)]
    folder: PathBuf,
    /// Where the firmware's words about the machine are.
    #[arg(long, value_name = "DIR", default_value = "/sys/class/dmi/id")]
    firmware: PathBuf,
    /// Leave the disk in this file and attach nothing, whatever the firmware says about this start.
    #[arg(long, value_name = "FILE")]
    only_file: Option<PathBuf>,
}

/// A bundle that the machine was started with: then none is asked for.
const CREDENTIAL: &str = "/run/credentials/@system/trilith.bundle";

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One line on the console and in the journal.
fn say(line: &str) {
    eprintln!("netboot: {line}");
}

fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(boot(args))
}

async fn boot(args: &Args) -> Result<()> {
    let path = &args.command_line;
    let words = std::fs::read_to_string(path);
    let words = words.with_context(|| format!("cannot read {}", path.display()))?;
    let value =
        |name: &str| words.split_whitespace().filter_map(move |it| it.strip_prefix(name)).collect();
    let root_hash: Vec<&str> = value("roothash=");
    let root_hash =
        root_hash.first().context("no roothash= on the command line: any root would do")?;
    let named: Vec<&str> = value(SERVER);
    let asked = args.only_file.is_some() || !named.is_empty();
    if !asked && !started_from_network() {
        say("this start is not from the network");
        return Ok(());
    }
    let links = Links::bring_up().await?;
    let sources = lease::sources(&links, &named).await?;
    let image = disk::Image::new(args.only_file.as_deref(), &args.folder)?;
    let (disk, bundle) =
        tokio::join!(download::image(&sources, root_hash, &image), ask(args, &sources),);
    disk?;
    bundle?;
    if args.only_file.is_none() {
        leave_word(&args.folder, &image.attach()?)?;
    }
    links.take_down().await
}

/// What the firmware says. Something on the network may also have started a boot loader from a partition.
fn started_from_network() -> bool {
    !matches!(efi::loader(), Loader::Partition(_))
        && efi::booted_from() == Some(BootedFrom::Network)
}

async fn ask(args: &Args, sources: &[Source]) -> Result<()> {
    if Path::new(CREDENTIAL).exists() {
        say("the machine was started with a bundle; none is asked for");
        return Ok(());
    }
    bundle::fetch(sources, &args.firmware, &args.folder.join(boot::NETWORK)).await
}

/// Tells the next step which disk it goes on from.
fn leave_word(folder: &Path, device: &str) -> Result<()> {
    let path = folder.join(boot::FETCHED);
    std::fs::write(&path, device.trim_start_matches("/dev/"))
        .with_context(|| format!("cannot write {}", path.display()))
}
