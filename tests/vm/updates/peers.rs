//! A release comes from other nodes that have it, before the source is asked: three nodes of a cluster on one switch, each
//! with its real agent, in a network namespace of its own; the others with the real program that reads their slots, and the
//! release on a loop device.

use std::fs::{self, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;
use trilith_core::update::State;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::command::sh;
use trilith_tests::loops::Loop;
use trilith_tests::network::{Neighbour, Network};
use trilith_tests::program::Program;

use super::METADATA;
use super::world::{STAGED, World, divided};

/// How many bytes each of the forty files has, and how many of them differ.
const FILE: usize = 1_500_000;
const DIFFER: usize = 20;

/// Bytes of a block of the hash tree.
const BLOCK: usize = 4096;

/// A cluster on a switch.
struct Lan(Cluster);

impl Lan {
    /// Its switch is in the network of the calling thread.
    fn new() -> Result<Self> {
        let network = Network::isolate()?;
        network.switch("lan")?;
        // Node 1 is in this namespace as well, and the bridge would answer for its address, with a MAC that changes with the
        // ports: who believes it talks to nobody once another cable is plugged in.
        sh("ip link set lan arp off")?;
        Ok(Self(Cluster::sample(&artifact::cluster("homelab.yaml"))?))
    }

    /// The agent of a node that sees this as its /run. `command` leads to its network.
    fn agent(&self, id: u16, folder: &Path, mut command: Command) -> Result<Program> {
        fs::create_dir_all(folder.join("run/trilith"))?;
        fs::write(folder.join("bundle.yaml"), self.0.bundle(id)?)?;
        let script = format!(
            "mount --bind {run} /run && cp /etc/passwd /etc/group /run && mount -t tmpfs etc /etc \
             && mv /run/passwd /run/group /etc && exec {} run --bundle {} --state {}",
            artifact::program("trilithd")?.display(),
            folder.join("bundle.yaml").display(),
            folder.join("state").display(),
            run = folder.join("run").display(),
        );
        let agent = Program::start(command.args(["unshare", "--mount", "sh", "-c", &script]))?;
        agent.until("peers: listening on")?;
        Ok(agent)
    }
}

/// The NIC of a node, at the end of a cable to the switch.
fn nic(id: u16) -> Result<String> {
    let nic = format!("nic{id}");
    let mac = format!("52:54:00:00:{id:02}:00");
    sh(&format!("ip link add {nic} address {mac} type veth peer name wire{id}"))?;
    sh(&format!("ip link set wire{id} master lan up"))?;
    Ok(nic)
}

/// Another node, which has 1.0-2.
struct Other {
    disk: Loop,
    agent: Option<Program>,
    share: Share,
    _home: (Neighbour, TempDir),
}

impl Other {
    fn new(lan: &Lan, id: u16, world: &World) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("other").tempdir_in(artifact::target())?;
        let disk = divided(&folder, &world.next, "1.0-2")?;
        disk.tell_partitions(&folder.path().join("run"))?;
        let home = Neighbour::new()?;
        home.take(&nic(id)?)?;
        let agent = Some(lan.agent(id, folder.path(), home.command())?);
        let share = share(folder.path())?;
        Ok(Self { disk, agent, share, _home: (home, folder) })
    }

    /// From now on it gives something else, whatever it is asked for: in each block that is new in the release.
    fn spoil(&self, world: &World) -> Result<()> {
        let old = fs::read(world.operator.at("first/trilith_1.0-1.root"))?;
        let new = fs::read(world.next.path("root"))?;
        let device = OpenOptions::new().write(true).open(self.disk.partition(2))?;
        for (block, (old, new)) in old.chunks(BLOCK).zip(new.chunks(BLOCK)).enumerate() {
            if old != new {
                device.write_all_at(&[!new[0]], (block * BLOCK) as u64)?;
            }
        }
        Ok(device.sync_all()?)
    }
}

/// The program that reads slots, as its socket starts it: again whenever it has ended because nobody asked. It needs nothing
/// of the network.
struct Share(Child);

impl Share {
    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(killpg(Pid::from_raw(i32::try_from(self.0.id())?), signal)?)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _gone = self.signal(Signal::SIGKILL);
        let _status = self.0.wait();
    }
}

fn share(folder: &Path) -> Result<Share> {
    let socket: PathBuf = folder.join("run/trilith-share.sock");
    let listener = OwnedFd::from(UnixListener::bind(&socket)?);
    let script = format!(
        "mount --bind {} /run && while {}; do :; done",
        folder.join("run").display(),
        artifact::program("trilith-share")?.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "sh", "-c", &script]).stdin(Stdio::from(listener));
    command.process_group(0).spawn().map(Share).context("cannot start trilith-share")
}

/// Node 1, which wishes for 1.0-2, and its agent.
fn wishing(lan: &Lan, world: &World) -> Result<Program> {
    nic(1)?;
    lan.agent(1, world.folder.path(), Command::new("env"))
}

/// What the source has to give if others have root and tree: metadata, manifests, and the system.
fn beside_the_slot(world: &World) -> Result<u64> {
    let next = world.operator.manifest("1.0-2")?;
    Ok(next.uki.whole.size + 2 * METADATA)
}

fn noted(state: &State, words: &str) -> Result<()> {
    ensure!(state.notes.iter().any(|note| note.contains(words)), "{words}: {:?}", state.notes);
    Ok(())
}

#[test]
fn others_give_what_they_have_and_the_source_the_rest() -> Result<()> {
    let lan = Lan::new()?;
    let world = World::differing(FILE, DIFFER)?;
    let _agent = wishing(&lan, &world)?;
    let (second, mut third) = (Other::new(&lan, 2, &world)?, Other::new(&lan, 3, &world)?);
    let next = world.operator.manifest("1.0-2")?;
    let differs = (FILE * DIFFER) as u64;
    ensure!(next.root.deltas[0].download.size > differs, "the delta is smaller than what differs");

    world.web.take_sent();
    let state = world.update(&[])?.wait(STAGED)?;
    world.is_staged()?;
    let sent = world.web.take_sent();
    eprintln!("two others: {} bytes from them, {sent} from the source", state.from_peers);
    ensure!(sent < beside_the_slot(&world)?, "{sent}");
    ensure!(state.from_peers > differs && state.from_peers < 2 * differs, "{}", state.from_peers);
    ensure!(!state.notes.iter().any(|note| note.contains("hv")), "{:?}", state.notes);

    // One of them gives something else: the other one gives the rest.
    world.reset()?;
    second.spoil(&world)?;
    let state = world.update(&[])?.wait(STAGED)?;
    world.is_staged()?;
    noted(&state, "hv2: gave what is not the release's")?;
    let sent = world.web.take_sent();
    eprintln!(
        "one of them lies: {} bytes from the other, {sent} from the source",
        state.from_peers
    );
    ensure!(sent < beside_the_slot(&world)?, "{sent}");

    // The other one dies meanwhile, too: the source gives what lacks.
    world.reset()?;
    let mut updating = world.update(&[])?;
    updating.until_so("something comes from others", |state| state.from_peers > 2 << 20)?;
    drop(third.agent.take());
    let state = updating.until(STAGED)?;
    drop(updating);
    world.is_staged()?;
    noted(&state, "hv2: gave what is not the release's")?;
    noted(&state, "hv3: does not give what it has")?;
    let sent = world.web.take_sent();
    eprintln!("and one dies: {} bytes from it, {sent} from the source", state.from_peers);
    ensure!(sent > beside_the_slot(&world)?, "nothing came from the source");
    ensure!(sent < next.root.deltas[0].download.size, "{sent}: what was there came again");
    Ok(())
}

/// Two begin, and nobody has it: the second waits until the first has it.
#[test]
fn one_fetch_from_the_source_serves_all() -> Result<()> {
    let lan = Lan::new()?;
    let world = World::differing(FILE, DIFFER)?;
    let later = world.another()?;
    let _agent = wishing(&lan, &world)?;
    let _share = share(world.folder.path())?;
    let home = Neighbour::new()?;
    home.take(&nic(3)?)?;
    let _later = lan.agent(3, later.folder.path(), home.command())?;

    let mut one = world.update(&[])?;
    one.until_so("it fetches", |state| state.fetching.is_some())?;
    // Both stand still where they are seen: what follows must not depend on who is faster.
    one.signal(Signal::SIGSTOP)?;
    let mut other = later.update(&[])?;
    other.until("waiting for hv1, which fetches it")?;
    other.signal(Signal::SIGSTOP)?;
    one.signal(Signal::SIGCONT)?;
    one.until(STAGED)?;
    // As udev would have by then.
    world.disk.tell_partitions(&world.at("run"))?;
    world.web.take_sent();
    other.signal(Signal::SIGCONT)?;
    let state = other.until(STAGED)?;
    drop((one, other));
    world.is_staged()?;
    later.is_staged()?;
    let sent = world.web.take_sent();
    eprintln!("the later one: {} bytes from the first, {sent} from the source", state.from_peers);
    ensure!(state.from_peers > (FILE * DIFFER) as u64, "{}", state.from_peers);
    ensure!(sent < beside_the_slot(&world)?, "{sent}");
    Ok(())
}

/// Somebody who says nothing any more holds up a node for as long as two tries may take.
#[test]
fn one_that_hangs_is_left_alone() -> Result<()> {
    let lan = Lan::new()?;
    let world = World::differing(FILE, DIFFER)?;
    let _agent = wishing(&lan, &world)?;
    let second = Other::new(&lan, 2, &world)?;
    let mut updating = world.update(&[])?;
    updating.until_so("something comes from others", |state| state.from_peers > 2 << 20)?;
    second.share.signal(Signal::SIGSTOP)?;
    let state = updating.until(STAGED)?;
    drop(updating);
    second.share.signal(Signal::SIGCONT)?;
    world.is_staged()?;
    noted(&state, "hv2: does not give what it has")?;
    Ok(())
}
