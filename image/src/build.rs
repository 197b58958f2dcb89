//! `trilith build`: from the sources here to a disk image. Every step keeps what it made below
//! `target/build` under a key of everything that it was made from, so that a second run redoes only
//! what changed.

mod agent; // the agent, against Debian 13's libraries
mod artifacts; // what lies beside the image, and the budgets
mod check; // nothing that ships lacks a library or its firmware
mod disk; // root, hash tree, UKI, disk
mod initrd; // the initrd
mod key; // digests of inputs
mod libraries; // which libraries programs name
mod mkosi; // how mkosi is called
mod packages; // the package layer
mod place; // folders and the lock
mod progress; // what a person sees
mod release; // version, times, seed
mod site; // the operator's own additions
mod sizes; // what the root is made of
mod sources; // where Debian's packages come from
mod tools; // the tools tree

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use trilith_core::version::Version;

use self::artifacts::Artifacts;
use self::disk::Parts;
use self::place::Place;
use self::release::Release;
use self::site::Site;
use crate::exit::Exit;

pub(crate) use self::artifacts::SUMS;
pub(crate) use self::disk::root_hash;
pub(crate) use self::key::hex;
pub(crate) use self::place::top;
pub(crate) use self::progress::Progress;
pub(crate) use self::tools::Tools;

/// Build the image: disk, UKI, root and hash tree, package list, SBOM, check sums.
///
/// Needs root, mmdebstrap, bubblewrap and a Rust toolchain; everything else comes from a tools tree
/// that it makes below target/. Run it in the repository.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The image's version, such as 2026.11.21-1 [default: day of the last commit, number 0]
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    /// A Debian archive to fetch from; the security archive is expected beside it, as URL-security
    /// [default: Debian's own]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Where the files go [default: target/image]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Your own additions: DIR/mkosi.conf with packages and kernel arguments, DIR/rootfs/ with files
    /// and units (see overlays/README.md)
    #[arg(long, value_name = "DIR")]
    site: Option<PathBuf>,
    /// Leave out what Debian has updated since its last point release: an old image, to see on one day what a round of
    /// security updates costs
    #[arg(long)]
    point_release: bool,
    /// Make tools tree and package layer anew, with the archive's packages of today
    #[arg(long)]
    refresh: bool,
}

/// Builds, or finds that nothing changed.
pub(crate) fn run(options: Options) -> Result<Exit> {
    let progress = Progress::start();
    let place = Place::find()?;
    let Options { version, mirror, output, site, point_release, refresh } = options;
    let release = Release::of(&place.top, version)?;
    let site = site.as_deref().map(Site::open).transpose()?;
    let folder = output.unwrap_or_else(|| place.top.join("target/image"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let artifacts = Artifacts { folder: folder.canonicalize()?, name: release.name() };

    progress.step(&format!("{} from {}", release.name(), place.top.display()));
    let mut tools = tools::make(&place, &progress, mirror.as_deref(), refresh)?;
    tools.bind(&artifacts.folder, true);
    if let Some(site) = &site {
        tools.bind(site.folder(), false);
    }
    let agent = agent::build(&place, &progress, &mut tools)?;
    let wanted = packages::Wanted { site: site.as_ref(), point_release, refresh };
    let packages = packages::make(&place, &progress, &tools, &wanted)?;
    check::run(&place, &progress, &tools, &packages, &agent.tree)?;
    let initrd = initrd::make(&place, &progress, &tools, &packages)?;
    let site = site.as_ref();
    let parts =
        Parts { release: &release, packages: &packages, initrd: &initrd, agent: &agent, site };
    let key = parts.key(&place)?;
    if artifacts.are_made_with(&key) {
        progress.kept("image");
    } else {
        artifacts.forget_key()?;
        let made = disk::make(&place, &progress, &tools, &parts)?;
        disk::publish(&made, &release, &artifacts.folder)?;
        let inputs = (&release, &packages, &agent);
        artifacts::complete(&place, &progress, &tools, inputs, &artifacts)?;
        artifacts.note_key(&key)?;
    }
    let report = artifacts::report(&artifacts, &packages)?;
    progress.step("done");
    eprintln!("{}", report.text);
    Ok(if report.within { Exit::Ok } else { Exit::OverBudget })
}
