//! A node that goes from release to release, with Secure Boot: A → B → A → C, so that the last step is also one over a release
//! that it has left. Then what nobody may give it.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use trilith_core::update::peers::{RELEASES, SOCKET};
use trilith_core::version::Version;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::laid::{lay, stick};
use trilith_tests::machine::{BOOT, Bus, Content, Disk, Hardware, REACTION};
use trilith_tests::network::Network;
use trilith_tests::node::Node;
use trilith_tests::operator::{Operator, version};
use trilith_tests::server::Server;
use trilith_tests::trip::Trip;
use trilith_tests::upgrade::{self, Absence, Wish};

use crate::faults::{checks_signatures, next_image};
use crate::install::{SIZE, TARGET, cluster, identity, the_firmware_starts_it_four_times};
use crate::site;

/// The most that the updater may need (issue 5, figures), in bytes.
const MEMORY: u64 = 200 << 20;

/// Where a node has a stick with releases.
const STICK: &str = "/run/media/trilith/releases";

#[test]
fn from_release_to_release_and_back_and_over_one() -> Result<()> {
    let network = Network::isolate()?;
    let images = [site::image()?, artifact::image()?, next_image()?];
    let operator = Operator::kept(&[&images[0], &images[1], &images[2]])?;
    let [a, b, c] = [version(&images[0])?, version(&images[1])?, version(&images[2])?];
    let cluster = cluster()?;
    let node = installed(&network, &cluster, &operator, &images[0])?;
    let server = Server::start(&operator.releases(), "10.10.0.254".parse()?)?;
    let absence = Absence::watch(node.address()?)?;
    let mut trip = Trip { node, operator: &operator, server: &server, absence };
    trip.node.ssh("echo kept > /var/lib/kept && sync")?;
    let before = identity(&trip.node)?;

    let wish = trip.wish(&b)?;
    let staged = trip.stage(&wish)?;
    eprintln!("{a} to {b}: {staged}");
    ensure!(staged.memory <= MEMORY, "the updater has needed {} bytes", staged.memory);
    let plain = trip.reboot()?;
    ensure!(upgrade::running(&trip.node)? == a.as_str(), "staging has changed what boots next");
    eprintln!("a plain reboot: away for {:.1} s", plain.as_secs_f64());
    let away = upgraded(&mut trip, &wish, &before)?;
    let ratio = away / plain.as_secs_f64();
    eprintln!("  upgrade : plain reboot = {ratio:.2} (at most 1.2)");

    its_slots_are_there_for_others(&trip, [&a, &b])?;

    refused_without_being_told(&trip, &a)?;
    // It is in the other slot still: nothing is fetched.
    let back = Wish { back: true, ..trip.wish(&a)? };
    upgraded(&mut trip, &back, &before)?;
    // Two releases on, and from a stick: what a node does that reaches no web server.
    let wish = Wish { source: STICK.into(), ..trip.wish(&c)? };
    let staged = trip.stage(&wish)?;
    eprintln!("{a} to {c}, from a stick: {staged}");
    ensure!(staged.fetched == 0, "it has asked the web server");
    upgraded(&mut trip, &wish, &before)?;
    nobody_else_gives_releases(&trip, &b)
}

/// A node that was installed with this release, in a machine whose firmware takes the operator's keys at its first start.
fn installed<'a>(
    network: &Network,
    cluster: &'a Cluster,
    operator: &Operator,
    image: &Path,
) -> Result<Node<'a>> {
    let mut spec = Node::spec(network, cluster, 1)?;
    spec.secure_boot = true;
    let releases = operator.releases().with_file_name("stick.raw");
    stick(&releases, &operator.releases())?;
    let stick = Disk::new("STICK", Bus::Usb, Content::Fixed(releases));
    spec.disks = vec![Disk::empty(TARGET, Bus::Virtio, SIZE), stick];
    spec.bundle = Some(cluster.bundle(1)?);
    spec.log = Some("upgrade".into());
    let hardware = Hardware::assemble(spec)?;
    lay(&hardware.file(TARGET)?, operator, image, true)?;
    let node = Node::switch_on(hardware, cluster, 1)?;
    node.console().wait("trilithd: network converged", BOOT)?;
    node.wait_converged()?;
    node.console().until("the firmware starts it four times", REACTION, || {
        the_firmware_starts_it_four_times(&node)
    })?;
    ensure!(checks_signatures(&node)?, "Secure Boot is off");
    Ok(node)
}

/// Has a staged release started; gives the seconds that the node was away.
fn upgraded(trip: &mut Trip<'_>, wish: &Wish<'_>, before: &str) -> Result<f64> {
    let (ended, away) = trip.activate(wish)?;
    let (version, away) = (wish.version, away.as_secs_f64());
    ensure!(ended.why(version).is_none(), "it has failed: {ended}");
    let now = identity(&trip.node)?;
    ensure!(now == before, "it is another one now:\n{now}");
    ensure!(trip.node.ssh("cat /var/lib/kept")? == "kept\n");
    ensure!(checks_signatures(&trip.node)?, "Secure Boot is off");
    eprintln!("{version} is proven; the node was away for {away:.1} s");
    Ok(away)
}

/// The program that gives releases to other nodes reads both slots, and no other partition.
fn its_slots_are_there_for_others(trip: &Trip<'_>, held: [&Version; 2]) -> Result<()> {
    let ask = |path: &str, range: &str| {
        let request =
            format!("GET {path} HTTP/1.1\\r\\nHost: x\\r\\n{range}Connection: close\\r\\n\\r\\n");
        let program = format!(
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(\"{SOCKET}\"); \
             s.sendall(b\"{request}\"); sys.stdout.buffer.write(s.makefile(\"rb\").read().partition(b\"\\r\\n\\r\\n\")[2])"
        );
        format!("python3 -c '{program}'")
    };
    let shown = trip.node.ssh(&ask(RELEASES, ""))?;
    for version in held {
        let hash = trip.operator.manifest(version)?.root_hash;
        ensure!(shown.contains(&hash.to_string()), "{version} is not given: {shown}");
        let device = format!("/dev/disk/by-partuuid/{}", hash.data());
        let mode = trip.node.ssh(&format!("stat --dereference --format %U:%G:%a {device}"))?;
        ensure!(mode.trim() == "root:trilith-share:640", "{version}: {mode}");
        let given = ask(&format!("{RELEASES}/{hash}/root"), "Range: bytes=4096-8191\\r\\n");
        let read = format!("dd if={device} bs=4096 skip=1 count=1 status=none");
        let sums = trip.node.ssh(&format!("{given} | sha256sum; {read} | sha256sum"))?;
        let mut sums = sums.lines();
        ensure!(sums.next() == sums.next(), "{version}: what is given is not what is there");
    }
    let groups = trip.node.ssh("stat --format %G /dev/vda* | sort | uniq --count")?;
    let given = groups.lines().find(|line| line.contains("trilith-share"));
    ensure!(given.is_some_and(|line| line.trim().starts_with("4 ")), "{groups}");
    Ok(())
}

/// An older release is none to upgrade to.
fn refused_without_being_told(trip: &Trip<'_>, older: &Version) -> Result<()> {
    upgrade::wish(&trip.node, &trip.wish(older)?)?;
    let why = upgrade::wait_refused(&trip.node, older, "this is no upgrade")?;
    eprintln!("refused: {why}");
    upgrade::unwish(&trip.node)
}

/// Metadata that have expired, that are older than what was seen, or that are signed by a key which was replaced.
fn nobody_else_gives_releases(trip: &Trip<'_>, wished: &Version) -> Result<()> {
    // What has expired is refused only by who knows the time: here nobody else tells it.
    trip.node.ssh("chronyc local stratum 10")?;
    let before = upgrade::look(&trip.node)?;
    let expired = trip.operator.twin()?;
    expired.refresh(0)?;
    is_refused(trip, &expired, wished, "expired")?;

    // A list that was seen makes every older one a lie.
    let (newer, none) = (trip.operator.twin()?, "99".parse()?);
    newer.refresh(30)?;
    newer.refresh(30)?;
    is_refused(trip, &newer, &none, "does not have this release")?;
    is_refused(trip, trip.operator, wished, "previously fetched version")?;

    // Whoever has stolen a key that was replaced since signs with it in vain.
    let (replaced, stolen) = (newer.twin()?, newer.twin()?);
    replaced.rotate("timestamp")?;
    replaced.refresh(30)?;
    stolen.refresh(30)?;
    let root = "metadata/2.root.json";
    fs::copy(replaced.releases().join(root), stolen.releases().join(root))?;
    is_refused(trip, &stolen, wished, "ignature threshold")?;
    let after = upgrade::look(&trip.node)?;
    ensure!(after == before, "something has changed: {before}, and now {after}");
    Ok(())
}

/// Whether a wish for a release from this folder is refused with these words.
fn is_refused(trip: &Trip<'_>, releases: &Operator, version: &Version, words: &str) -> Result<()> {
    trip.server.serve(&releases.releases());
    upgrade::wish(&trip.node, &Wish { back: true, ..trip.wish(version)? })?;
    let why = upgrade::wait_refused(&trip.node, version, words)?;
    eprintln!("refused: {why}");
    upgrade::unwish(&trip.node)
}
