//! The process that holds a lab. It makes the namespaces, starts the first process in them, waits until that one
//! ends, and then takes away what the kernel does not take away by itself.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{lock, lock_path, node_folder, plan::Plan, root_folder};
use crate::command::{run, sh};
use crate::network::Network;

/// What the keeper says on stdout once the lab stands.
pub(super) const READY: &str = "ready\n";

/// Where the control groups are, in the lab's own mounts.
pub(super) const GROUPS: &str = "/sys/fs/cgroup";

const FILE: &str = "keeper.json";

/// How to find what the keeper holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Keeper {
    /// The first process in the lab's namespaces, by its number on the host.
    init: i32,
    /// The lab's control group, below [`GROUPS`].
    group: PathBuf,
}

impl Keeper {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// The start of a command in these namespaces of the lab: `--net`, `--mount`, `--pid`.
    pub(super) fn enter(&self, namespaces: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string()]).args(namespaces);
        command
    }

    /// The control group of a node, below [`GROUPS`].
    pub(super) fn below(&self, node: &str) -> PathBuf {
        self.group.join(node)
    }

    /// The control group of a node, as this process sees it.
    pub(super) fn group(&self, node: &str) -> PathBuf {
        let groups = format!("/proc/{}/root{GROUPS}", self.init);
        Path::new(&groups).join(&self.group).join(node)
    }

    /// The lab's own network.
    pub(super) fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.init).into()
    }

    /// Ends every process of the lab.
    pub(super) fn kill(&self) -> Result<()> {
        match kill(Pid::from_raw(self.init), Signal::SIGKILL) {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(error) => Err(error).context("cannot end the lab's first process (root needed)"),
        }
    }
}

/// The keeper's whole life. `tied`: the lab ends when stdin does.
pub fn keep(folder: &Path, tied: bool) -> Result<()> {
    let lock = lock(folder)?;
    lock.try_lock().context("a lab is up already: `ci/lab down` ends it")?;
    let disks = attach(folder)?;
    let mut held = hold(folder, tied)?;
    // Ends when the lab is ended, or when the host takes the process away.
    let ended = held.init.wait().context("cannot wait for the lab's first process");
    drop(held);
    drop(disks);
    ended?;
    fs::remove_dir_all(folder).context("cannot remove the lab's folder")?;
    fs::remove_file(lock_path(folder)).context("cannot remove the lab's lock")?;
    drop(lock);
    Ok(())
}

/// Gives each disk of each node a loop device, which goes when nobody holds it open any more.
fn attach(folder: &Path) -> Result<Vec<File>> {
    let mut plan = Plan::read(folder)?;
    let mut held = Vec::new();
    for node in &mut plan.nodes {
        let here = node_folder(folder, &node.name);
        fs::create_dir_all(&here)?;
        for disk in &mut node.disks {
            let file = here.join(&disk.file);
            File::create(&file)?.set_len(DISK_SIZE)?;
            let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&file))?;
            let device = PathBuf::from(device.trim_end());
            held.push(File::open(&device)?);
            // Detached while it is open: the kernel does so when the last user closes it, whatever happens.
            run(Command::new("losetup").arg("--detach").arg(&device))?;
            disk.device = Some(device);
        }
    }
    plan.write(folder)?;
    Ok(held)
}

/// Sparse; an OSD wants some gigabytes.
const DISK_SIZE: u64 = 10 << 30;

/// What the kernel keeps for the lab beyond its processes: the control groups, empty by the end, and the images'
/// mounts, which the lab's folder cannot be removed with.
struct Held {
    init: Child,
    group: PathBuf,
    roots: Vec<PathBuf>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // On the way out after an error the first process still runs, with nothing beside it.
        let _ended = self.init.kill().and_then(|()| self.init.wait());
        for root in &self.roots {
            let _unmounted = umount2(root, MntFlags::MNT_DETACH);
        }
        let _removed = remove_group(&Path::new(GROUPS).join(&self.group));
    }
}

/// Makes the namespaces and what is in them before any node is on.
fn hold(folder: &Path, tied: bool) -> Result<Held> {
    let plan = Plan::read(folder)?;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make namespaces (root needed)")?;
    let network = Network::isolate()?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // `ip netns` keeps its names here; they are nobody else's.
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
    mount(Some("cgroup2"), GROUPS, Some("cgroup2"), MsFlags::empty(), none)
        .context("cannot mount the control groups")?;
    let mut held = Held {
        init: start_init(tied)?,
        group: format!("trilith-lab-{}", std::process::id()).into(),
        roots: Vec::new(),
    };
    fs::create_dir(Path::new(GROUPS).join(&held.group)).context("cannot make a control group")?;
    let own = plan.releases.iter().map(|(version, root)| (Some(version.as_str()), root));
    for (version, root) in [(None, &plan.root)].into_iter().chain(own) {
        let place = root_folder(folder, &plan, version);
        fs::create_dir_all(&place)?;
        run(Command::new("mount").args(["-t", "erofs", "-o", "loop,ro"]).args([root, &place]))?;
        held.roots.push(place);
    }
    wire(&network, &plan)?;
    let keeper = Keeper { init: held.init.id().try_into()?, group: held.group.clone() };
    fs::write(folder.join(FILE), serde_json::to_vec(&keeper)?)?;
    say_ready()?;
    Ok(held)
}

/// Starts the first process of a namespace of processes, in which all later children of the keeper are as well.
fn start_init(tied: bool) -> Result<Child> {
    unshare(CloneFlags::CLONE_NEWPID)?;
    let mut init = Command::new(std::env::current_exe()?)
        .arg("reap")
        .args(tied.then_some("--tied"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = [0; READY.len()];
    init.stdout.take().context("the first process has no stdout")?.read_exact(&mut ready)?;
    Ok(init)
}

/// Switches, and the lab's own addresses on them.
fn wire(network: &Network, plan: &Plan) -> Result<()> {
    for switch in &plan.switches {
        network.switch(&switch.name)?.peer(&switch.addresses)?;
    }
    // Packets of the nodes pass the switches, not this host's routes or filters.
    sh("sysctl -qw net.ipv4.ip_forward=0").map(drop)
}

fn say_ready() -> Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(READY.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Removes a control group with those below it.
pub(super) fn remove_group(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// The life of the first process in the lab's namespaces: ends with the keeper, and reaps what others leave.
/// `tied`: ends with stdin as well. When it ends, the kernel ends all others.
pub fn reap(tied: bool) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if parent_id() != 0 {
        bail!("this is the keeper's own command; `ci/lab up` makes a lab");
    }
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    child.thread_block()?;
    say_ready()?;
    let reaper = thread::spawn(move || reap_all(child));
    if tied {
        io::stdin().read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    reaper.join().unwrap_or(Ok(()))
}

fn reap_all(child: SigSet) -> Result<()> {
    loop {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        child.wait()?;
    }
}
