//! A whole cluster on this host: each node the image's root in a container, on private links in namespaces.
//!
//! One process, the keeper, holds everything: the namespaces of processes, mounts and networks that the containers
//! are in, and the loop devices of their disks. When it ends, however it ends, nothing of the lab is left.
//! A lab that a test made ends with the test; one that `ci/lab up` made stays until `ci/lab down`.

mod boot; // from a switch turned on to systemd-nspawn
mod container; // one node: commands in it, its status, its journal
mod keeper; // the process that holds a lab
mod plan; // what a lab consists of
mod power; // on, off, cut, wiped
mod slots; // what stands for two slots, and for who chooses between them
mod units; // the processes of units, and what the agent says of them
mod wiring; // cables, and partitions between them

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;
use trilith_core::config::Node;
use trilith_core::version::Version;

use crate::artifact;
use crate::cluster::Cluster;

pub use boot::boot;
pub use container::{Container, Wait, text};
pub use keeper::{keep, reap};
pub use plan::{DiskPlan, NicPlan, NodePlan, Plan, Switch};
pub use units::now;
pub use wiring::Cut;

use keeper::Keeper;

/// What to make.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The cluster file.
    pub cluster: PathBuf,
    /// So many of its nodes, from the first on; all of them if not said.
    pub nodes: Option<usize>,
    /// An agent in place of the image's own, read anew at each boot of a node.
    pub agent: Option<PathBuf>,
    /// A folder laid over the root, such as `overlays/rootfs`: units and files without an image build.
    pub overlay: Option<PathBuf>,
    /// Nodes whose clocks differ, by name, and by how much as libfaketime reads it: `+600s`.
    pub clocks: Vec<(String, String)>,
    /// Whether nodes have what stands for two slots here: then [`Lab::boot_newest`] starts them.
    pub slots: bool,
    /// Releases with a root of their own. Any other one is the image's root under another name.
    pub releases: Vec<Release>,
}

/// A release that was built.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its version.
    pub version: Version,
    /// Its root file system.
    pub root: PathBuf,
}

impl Spec {
    /// The cluster file made for the lab, with everything from the image.
    ///
    /// With `TRILITH_LAB_DEV` in the environment, the agent is the one beside this program and the files of this
    /// repository's `overlays/rootfs` lie over the image's, so that no image need be built to try a change.
    pub fn sample() -> Result<Self> {
        let dev = std::env::var_os("TRILITH_LAB_DEV").is_some();
        Ok(Self {
            cluster: artifact::cluster("lab.yaml"),
            nodes: None,
            agent: dev.then(|| artifact::program("trilithd")).transpose()?,
            overlay: dev.then(|| artifact::repository().join("overlays/rootfs")),
            clocks: Vec::new(),
            slots: false,
            releases: Vec::new(),
        })
    }
}

/// A lab that is up. Nodes are on or off in it.
#[derive(Debug)]
pub struct Lab {
    folder: PathBuf,
    plan: Plan,
    cluster: Cluster,
    keeper: Keeper,
    /// The keeper as a child of this process, which ends with it.
    tied: Option<Child>,
}

impl Lab {
    /// Makes a lab that ends when it goes out of scope, or when this process ends. Its nodes are off.
    pub fn tied(spec: &Spec) -> Result<Self> {
        let number = artifact::target().join("lab").join(format!("test-{}", std::process::id()));
        Self::make(&number, spec, true)
    }

    /// Makes a lab that stays until [`Lab::down`]. Its nodes are off.
    pub fn up(folder: &Path, spec: &Spec) -> Result<Self> {
        Self::make(folder, spec, false)
    }

    /// The lab that stands in this folder.
    pub fn open(folder: &Path) -> Result<Self> {
        ensure!(is_up(folder)?, "no lab is up: `ci/lab up` makes one");
        Ok(Self {
            plan: Plan::read(folder)?,
            cluster: Cluster::open(&folder.join(CLUSTER))?,
            keeper: Keeper::read(folder)?,
            folder: folder.to_owned(),
            tied: None,
        })
    }

    fn make(folder: &Path, spec: &Spec, tied: bool) -> Result<Self> {
        ensure!(!is_up(folder)?, "a lab is up already: `ci/lab down` ends it");
        if folder.exists() {
            // Left by a keeper that was killed; nothing uses it any more.
            fs::remove_dir_all(folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let child = begin(&folder, spec, tied).inspect_err(|_| {
            // What was wrong is what matters; what stays is in the way of nobody.
            let _gone =
                fs::remove_dir_all(&folder).and_then(|()| fs::remove_file(lock_path(&folder)));
        })?;
        let mut lab = Self::open(&folder)?;
        lab.tied = tied.then_some(child);
        lab.plan.nodes.iter().try_for_each(|node| lab.furnish(node))?;
        Ok(lab)
    }

    /// Its cluster file and what belongs to it.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What it consists of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The names of all nodes.
    pub fn names(&self) -> Vec<&str> {
        self.plan.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    /// A node by its name, on or off.
    pub fn node(&self, name: &str) -> Result<Container<'_>> {
        Ok(Container::new(self, self.plan.node(name)?))
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = Container<'_>> {
        self.plan.nodes.iter().map(|node| Container::new(self, node))
    }

    /// A program of this host in the lab's own network: the gateway, and a neighbour on every core network.
    pub fn outside(&self, program: &str) -> Command {
        let mut command = self.keeper.enter(&["--net"]);
        command.arg(program);
        command
    }

    /// A program of the image in the lab's own network, with this folder of the host's as its /mnt.
    pub fn in_image(&self, program: &str, data: &Path) -> Command {
        let mut command = self.keeper.enter(&["--mount", "--net"]);
        command
            .args(["bwrap", "--die-with-parent", "--ro-bind"])
            .arg(self.folder.join(ROOT))
            .arg("/");
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run", "--tmpfs", "/tmp"]);
        command.arg("--bind").arg(data).args(["/mnt", program]);
        command
    }

    /// Does something in the lab's own network, see [`Lab::outside`], without another program.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let network = File::open(self.keeper.network()).context("cannot open the lab's network")?;
        // A thread of its own, since that is what enters a network.
        let thread = || {
            setns(network, CloneFlags::CLONE_NEWNET).context("cannot enter the lab's network")?;
            act()
        };
        thread::scope(|scope| scope.spawn(thread).join())
            .map_err(|_| anyhow!("a panic in the lab's network"))?
    }

    /// A folder for what belongs to it and holds its secrets: it goes with the lab at the latest.
    pub fn scratch(&self) -> Result<TempDir> {
        TempDir::new_in(&self.folder).context("cannot make a folder in the lab's")
    }

    /// Ends it: every process, mount, namespace and device, and all data of its nodes.
    pub fn down(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        match self.tied.take() {
            // Its stdin ends, as it does when this process is killed: there is one way out and no other.
            Some(mut child) => drop(child.wait()?),
            None => self.keeper.kill()?,
        }
        // The keeper holds it until the last thing is gone, and then removes it.
        match File::open(lock_path(&self.folder)) {
            Ok(lock) => lock.lock().context("cannot wait for the lab's end"),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).context("cannot open the lab's lock"),
        }
    }

    fn node_folder(&self, node: &NodePlan) -> PathBuf {
        node_folder(&self.folder, &node.name)
    }

    /// What a node is given as its bundle at its next boot; `None`: nothing.
    pub fn give(&self, name: &str, bundle: Option<&str>) -> Result<()> {
        let path = self.node_folder(self.plan.node(name)?).join(BUNDLE);
        match bundle {
            Some(bundle) => fs::write(&path, bundle),
            None => fs::remove_file(&path),
        }
        .with_context(|| format!("cannot change {}", path.display()))
    }

    /// Gives every node that is on its bundle anew, made from the cluster file and the secrets as they are now, and the
    /// others at their next boot.
    pub fn deliver(&self) -> Result<()> {
        self.nodes().try_for_each(|node| self.deliver_to(&node))
    }

    /// The same for one node.
    pub fn deliver_to(&self, node: &Container<'_>) -> Result<()> {
        let bundle = self.cluster.bundle(node.config()?.id.into())?;
        self.give(node.name(), Some(&bundle))?;
        if !node.is_on() {
            return Ok(());
        }
        let folder = node.root()?.join("run/trilith");
        let (new, path) = (folder.join("bundle.yaml.new"), folder.join(BUNDLE));
        fs::write(&new, bundle)
            .and_then(|()| fs::set_permissions(&new, Permissions::from_mode(0o600)))
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// A node's bundle and an empty /var.
    fn furnish(&self, node: &NodePlan) -> Result<()> {
        let folder = self.node_folder(node);
        fs::create_dir_all(folder.join(VAR))?;
        fs::write(folder.join(BUNDLE), self.cluster.bundle(node.id)?)?;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.tied.is_some() {
            // There is nobody to tell; the keeper ends by itself when this process does.
            let _ended = self.end();
        }
    }
}

/// Folders and files of a lab, and of each node in its own folder.
const CLUSTER: &str = "cluster";
const ROOT: &str = "root";
const NODES: &str = "nodes";
const LAYER: &str = "layer";
const VAR: &str = "var";
const BUNDLE: &str = "bundle.yaml";
const CONSOLE: &str = "console.log";

/// Where the root of a release is mounted; `None`, or one without a root of its own: the image's.
fn root_folder(folder: &Path, plan: &Plan, version: Option<&str>) -> PathBuf {
    let own = version.filter(|version| plan.releases.contains_key(*version));
    own.map_or_else(|| folder.join(ROOT), |version| folder.join(format!("{ROOT}-{version}")))
}

/// What lies over the root of a release, if anything does.
fn over_folder(folder: &Path, version: &str) -> PathBuf {
    folder.join(format!("over-{version}"))
}

fn node_folder(folder: &Path, name: &str) -> PathBuf {
    folder.join(NODES).join(name)
}

/// Beside the folder, for it must outlive it.
fn lock_path(folder: &Path) -> PathBuf {
    folder.with_extension("lock")
}

fn lock(folder: &Path) -> Result<File> {
    let path = lock_path(folder);
    File::create(&path).with_context(|| format!("cannot open {}", path.display()))
}

/// Whether a keeper holds the lab.
fn is_up(folder: &Path) -> Result<bool> {
    if !folder.exists() {
        return Ok(false);
    }
    match lock(folder)?.try_lock() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(error)) => Err(error).context("cannot try the lab's lock"),
    }
}

/// Its cluster, its plan, and its keeper.
fn begin(folder: &Path, spec: &Spec, tied: bool) -> Result<Child> {
    let cluster = Cluster::create(&spec.cluster, &folder.join(CLUSTER))?;
    plan(spec, &cluster, folder)?.write(folder)?;
    start_keeper(folder, tied)
}

/// What the lab will consist of.
fn plan(spec: &Spec, cluster: &Cluster, folder: &Path) -> Result<Plan> {
    let all: Vec<&Node> = cluster.config().nodes.values().collect();
    let wanted = spec.nodes.unwrap_or(all.len());
    let Some(nodes) = all.get(..wanted) else {
        bail!("{} has only {} nodes, not {wanted}", spec.cluster.display(), all.len());
    };
    let (switches, nodes) = plan::wire(cluster.config(), nodes)?;
    let whole = |path: &PathBuf| {
        path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
    };
    // What is not a node's own comes from the first of them: the clients beside the nodes.
    let first = spec.releases.first().map(|release| whole(&release.root));
    let mut plan = Plan {
        root: first.unwrap_or_else(artifact::root)?,
        releases: spec
            .releases
            .iter()
            .map(|release| Ok((release.version.to_string(), whole(&release.root)?)))
            .collect::<Result<_>>()?,
        tools: artifact::tools()?,
        agent: spec.agent.as_ref().map(whole).transpose()?,
        overlay: spec.overlay.as_ref().map(whole).transpose()?,
        switches,
        nodes,
    };
    for (name, offset) in &spec.clocks {
        plan.node(name)?;
        plan.nodes.iter_mut().filter(|node| node.name == *name).for_each(|node| {
            node.clock = Some(offset.clone());
        });
    }
    boot::lay(folder, spec.agent.as_deref(), !spec.clocks.is_empty())?;
    if spec.slots {
        slots::lay(&folder.join(LAYER))?;
    }
    Ok(plan)
}

/// Starts the keeper and waits until it holds everything.
fn start_keeper(folder: &Path, tied: bool) -> Result<Child> {
    let mut command = Command::new("setsid");
    command.arg(artifact::program("trilith-lab")?).arg("keep").arg(folder);
    if tied {
        command.arg("--tied").stdin(Stdio::piped());
    } else {
        command.stdin(Stdio::null());
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the keeper")?;
    let mut said = String::new();
    let stdout = child.stdout.take().context("the keeper has no stdout")?;
    BufReader::new(stdout).read_line(&mut said)?;
    if said != keeper::READY {
        let output = child.wait_with_output()?;
        bail!("the lab cannot be made: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(child)
}
