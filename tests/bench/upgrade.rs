//! A node that is upgraded over HTTP: what it fetches of what a release is, how long that takes and how much memory; and for
//! how long it is away, against a plain reboot of the same machine.
//!
//! The old release is `TRILITH_OLD_IMAGE`: `ci/bench` makes one without the security updates since Debian's last point release.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::laid::lay;
use trilith_tests::machine::{BOOT, Bus, Disk, Hardware};
use trilith_tests::network::Network;
use trilith_tests::node::Node;
use trilith_tests::operator::{Operator, version};
use trilith_tests::server::Server;
use trilith_tests::trip::{Staged, Trip};
use trilith_tests::upgrade::{Absence, Wish};

use crate::table::{Table, median, seconds};

const TARGET: &str = "TARGET";
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn figures(table: &mut Table, rounds: usize) -> Result<()> {
    let (old, new) = images()?;
    let operator = Operator::kept_for_users(&[&old, &new])?;
    let (from, to) = (version(&old)?, version(&new)?);
    let network = Network::isolate()?;
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    cluster.install_on(TARGET)?;
    let mut spec = Node::spec(&network, &cluster, 1)?;
    spec.disks = vec![Disk::empty(TARGET, Bus::Virtio, 32)];
    spec.bundle = Some(cluster.bundle(1)?);
    let hardware = Hardware::assemble(spec)?;
    lay(&hardware.file(TARGET)?, &operator, &old, false)?;
    let node = Node::switch_on(hardware, &cluster, 1)?;
    node.console().wait("trilithd: network converged", BOOT)?;
    node.wait_converged()?;
    let server = Server::start(&operator.releases(), "10.10.0.254".parse()?)?;
    let absence = Absence::watch(node.address()?)?;
    let mut trip = Trip { node, operator: &operator, server: &server, absence };
    let (mut plain, mut upgrades, mut staged) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        if round > 0 {
            let back = Wish { back: true, ..trip.wish(&from)? };
            trip.activate(&back)?;
        }
        plain.push(trip.reboot()?.as_secs_f64());
        let wish = trip.wish(&to)?;
        // Later it is in the other slot still.
        if round == 0 {
            staged.push(trip.stage(&wish)?);
        }
        let (ended, away) = trip.activate(&wish)?;
        ensure!(ended.rests_on(&to), "{ended}");
        upgrades.push(away.as_secs_f64());
    }
    let changed = changed(&old, &new)?;
    let debs = changed.iter().map(|package| deb(package)).sum::<Result<u64>>()?;
    table.add("packages that are new in the release", &changed.len().to_string(), "");
    show(table, &staged, debs);
    table.add("away in a plain reboot", &seconds(&plain), "");
    table.add("away in an upgrade", &seconds(&upgrades), "");
    let ratio = median(upgrades) / median(plain);
    table.add("  upgrade : plain reboot", &format!("{ratio:.2}"), "1.20");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "fewer bytes than a float counts exactly")]
fn show(table: &mut Table, staged: &[Staged], debs: u64) {
    let all = |pick: fn(&Staged) -> f64| staged.iter().map(pick).collect::<Vec<_>>();
    let fetched = median(all(|it| it.fetched as f64));
    let whole = median(all(|it| it.whole as f64));
    let memory = all(|it| it.memory as f64).into_iter().fold(0.0, f64::max);
    table.add("fetched for an upgrade", &format!("{:.1} MiB", fetched / MIB), "45 MiB");
    table.add("  fetched : all of it, compressed", &format!("{:.3}", fetched / whole), "");
    let debs = debs as f64;
    table.add("  their .debs", &format!("{:.1} MiB", debs / MIB), "");
    table.add("  fetched : their .debs", &format!("{:.3}", fetched / debs), "");
    table.add(
        "fetched, written, read back, staged",
        &seconds(&all(|it| it.took.as_secs_f64())),
        "",
    );
    table.add("memory of the updater at most", &format!("{:.0} MiB", memory / MIB), "200 MiB");
}

/// The old image and the new one.
pub(crate) fn images() -> Result<(PathBuf, PathBuf)> {
    let old = env::var_os("TRILITH_OLD_IMAGE").context("no TRILITH_OLD_IMAGE: run `ci/bench`")?;
    Ok((PathBuf::from(old), artifact::image()?))
}

/// The lines of packages that were added, or are there in another version.
fn changed(old: &Path, new: &Path) -> Result<Vec<String>> {
    let packages = |image: &Path| -> Result<BTreeSet<String>> {
        let list = image.with_extension("packages.txt");
        let text = fs::read_to_string(&list).with_context(|| format!("no {}", list.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    Ok(packages(new)?.difference(&packages(old)?).cloned().collect())
}

/// The size of a package as the archive gives it, in bytes; the build keeps what it fetches.
fn deb(package: &str) -> Result<u64> {
    let words: Vec<&str> = package.split_whitespace().collect();
    let [name, version, architecture] = words[..] else { bail!("not a package: {package}") };
    let file = format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a"));
    let path = artifact::target().join("build/packages/cache/apt/archives").join(file);
    let meta = fs::metadata(&path)
        .with_context(|| format!("no {}: `trilith build --refresh` fetches it", path.display()))?;
    Ok(meta.len())
}
