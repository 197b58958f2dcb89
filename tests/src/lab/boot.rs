//! From a switch turned on to systemd-nspawn: what firmware, kernel and initrd do on a machine.
//!
//! It runs as a process of its own in the lab's namespaces, since it leaves them for the node's. What it mounts is
//! seen by the container alone and goes with it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::slice;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{chdir, pivot_root};

use super::keeper::{GROUPS, Keeper};
use super::plan::{NodePlan, Plan};
use super::{BUNDLE, CONSOLE, LAYER, VAR, node_folder, over_folder, root_folder, slots};

const NONE: Option<&str> = None;

/// Where libfaketime lies in the node, if a clock differs.
const FAKETIME: &str = "usr/lib/trilith/lab/libfaketime.so.1";

/// The setting of a clock that differs.
const CLOCK: &str = "90-lab-clock.conf";

/// Units that keep the host's clock: programs with Ceph's allocator (tcmalloc) crash at their start with libfaketime,
/// which asks for memory before the allocator can tell the time.
const CLOCKLESS: [&str; 4] = ["ceph-mon@", "ceph-mgr@", "ceph-osd@", "trilith-osd@"];

/// The programs that speak with Ceph, speak of upgrades and move machines lie beside the agent where all are built, and
/// here in the node.
const HELPERS: [&str; 3] = ["trilith-rados", "trilith-wave", "trilith-evacuate"];
const FOLDER: &str = "usr/lib/trilith";

/// What the boot loader would give to the kernel, as far as it is systemd's; mkosi.conf has the rest.
const KERNEL_ARGUMENTS: [&str; 4] = [
    "systemd.getty_auto=no",
    "systemd.ssh_auto=no",
    "systemd.firstboot=no",
    "systemd.show_status=yes",
];

/// Lays the files that every node of a lab has beside the image's.
pub(super) fn lay(folder: &Path, agent: Option<&Path>, clocks: bool) -> Result<()> {
    let layer = folder.join(LAYER);
    fs::create_dir_all(layer.join("etc"))?;
    if agent.is_some() {
        // An image that is older may not have it, and what is bound needs a place.
        fs::create_dir_all(layer.join(FOLDER))?;
        for helper in HELPERS {
            fs::write(layer.join(FOLDER).join(helper), "")?;
        }
    }
    if !clocks {
        return Ok(());
    }
    let library = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|arch| Path::new("/usr/lib").join(arch).join("faketime/libfaketime.so.1"))
        .into_iter()
        .find(|path| path.exists())
        .context("a clock that differs needs libfaketime: `apt-get install libfaketime`")?;
    let target = layer.join(FAKETIME);
    fs::create_dir_all(target.parent().unwrap_or(&layer))?;
    fs::copy(library, target).map(drop).context("cannot copy libfaketime")
}

/// Boots a node of the lab in `folder`, as far as its container's start.
pub fn boot(folder: &Path, name: &str) -> Result<()> {
    let plan = Plan::read(folder)?;
    let boot = Boot {
        node: plan.node(name)?,
        keeper: Keeper::read(folder)?,
        here: node_folder(folder, name),
        plan: &plan,
        folder,
    };
    let console = File::options().create(true).append(true).open(boot.here.join(CONSOLE))?;
    boot.enter_network()?;
    boot.join_group()?;
    if slots::release(&boot.here).is_some() {
        begin_time()?;
    }
    let tree = boot.tools()?;
    boot.root(&tree.join("mnt"))?;
    boot.credentials_and_disks(&tree.join("run"))?;
    pivot(&tree)?;
    boot.nspawn(console)
}

struct Boot<'a> {
    folder: &'a Path,
    /// The node's own folder.
    here: PathBuf,
    plan: &'a Plan,
    node: &'a NodePlan,
    keeper: Keeper,
}

impl Boot<'_> {
    /// The node's network, already before the container: what is mounted as /sys shows its interfaces.
    fn enter_network(&self) -> Result<()> {
        let network = File::open(Path::new("/run/netns").join(&self.node.name))?;
        setns(network, CloneFlags::CLONE_NEWNET).context("cannot enter the node's network")?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
        Ok(())
    }

    /// Its own control group, by which its power is cut.
    fn join_group(&self) -> Result<()> {
        let group = Path::new(GROUPS).join(self.keeper.below(&self.node.name));
        fs::create_dir_all(&group)?;
        fs::write(group.join("cgroup.procs"), "0").context("cannot enter the node's control group")
    }

    /// The tree that systemd-nspawn runs in: the tools, as they are, with this host's kernel below.
    fn tools(&self) -> Result<PathBuf> {
        let scratch = self.here.join("boot");
        fs::create_dir_all(&scratch)?;
        tmpfs(&scratch)?;
        let tree = scratch.join("tree");
        overlay(slice::from_ref(&self.plan.tools), &scratch.join("tools"), &tree)?;
        mount(Some("/dev"), &tree.join("dev"), NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
        for (kind, place) in [("proc", "proc"), ("sysfs", "sys"), ("cgroup2", "sys/fs/cgroup")] {
            mount(Some(kind), &tree.join(place), Some(kind), MsFlags::empty(), NONE)
                .with_context(|| format!("cannot mount {kind}"))?;
        }
        tmpfs(&tree.join("run"))?;
        Ok(tree)
    }

    /// The node's root: the verified one, /etc in memory over it, and the node's own /var.
    fn root(&self, root: &Path) -> Result<()> {
        let layers = self.layers();
        let etc: Vec<_> = layers.iter().map(|l| l.join("etc")).filter(|etc| etc.is_dir()).collect();
        let lower = joined(&layers)?;
        mount(Some("root"), root, Some("overlay"), MsFlags::MS_RDONLY, Some(&*lower))
            .context("cannot lay the root")?;
        overlay(&etc, &self.here.join("boot/etc"), &root.join("etc"))?;
        bind(&self.here.join(VAR), &root.join("var"))?;
        if let Some(agent) = &self.plan.agent {
            bind(agent, &root.join("usr/bin/trilithd"))?;
            for helper in HELPERS {
                bind(&agent.with_file_name(helper), &root.join(FOLDER).join(helper))?;
            }
        }
        let id = root.join("etc/machine-id");
        fs::write(&id, self.machine_id()?)?;
        fs::set_permissions(&id, fs::Permissions::from_mode(0o444))?;
        self.release(root)?;
        self.clock(root)
    }

    /// The name of the release, which is another one than the root's where that is not its own.
    fn release(&self, root: &Path) -> Result<()> {
        let Some(version) = slots::release(&self.here) else { return Ok(()) };
        let path = root.join("usr/lib/os-release");
        let text = fs::read_to_string(&path)?;
        let name = format!("IMAGE_VERSION={version}");
        let named = |line: &str| {
            if line.starts_with("IMAGE_VERSION=") {
                name.clone() + "\n"
            } else {
                line.to_owned() + "\n"
            }
        };
        let own = self.here.join("boot/os-release");
        fs::write(&own, text.lines().map(named).collect::<String>())?;
        bind(&own, &path)
    }

    /// Topmost first.
    fn layers(&self) -> Vec<PathBuf> {
        let release = slots::release(&self.here);
        let root = root_folder(self.folder, self.plan, release.as_deref());
        let over = release.map(|release| over_folder(self.folder, &release));
        let over = over.filter(|folder| folder.is_dir());
        let own = [self.folder.join(LAYER), root];
        over.into_iter().chain(self.plan.overlay.iter().cloned()).chain(own).collect()
    }

    /// Made once and kept on /var, as the initrd does it.
    fn machine_id(&self) -> Result<String> {
        let path = self.here.join(VAR).join("lib/trilith/machine-id");
        if let Ok(known) = fs::read_to_string(&path) {
            return Ok(known);
        }
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, &id)?;
        Ok(id)
    }

    /// Time of day is one for all containers of a kernel, so the programs of this node are told another one.
    /// What counts seconds since the boot goes on as it is, as it does on a machine whose clock is wrong.
    fn clock(&self, root: &Path) -> Result<()> {
        let Some(offset) = &self.node.clock else { return Ok(()) };
        let folder = root.join("etc/systemd/system.conf.d");
        fs::create_dir_all(&folder)?;
        let text = format!(
            "[Manager]\nDefaultEnvironment=LD_PRELOAD=/{FAKETIME} FAKETIME={offset} \
             FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_RESET=1 NO_FAKE_STAT=1\n"
        );
        fs::write(folder.join(CLOCK), text).context("cannot write the clock's setting")?;
        for unit in CLOCKLESS {
            let folder = root.join("etc/systemd/system").join(format!("{unit}.service.d"));
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(CLOCK), "[Service]\nUnsetEnvironment=LD_PRELOAD\n")?;
        }
        Ok(())
    }

    fn credentials_and_disks(&self, run: &Path) -> Result<()> {
        // By inode: the node's folder is out of sight soon.
        if self.here.join(BUNDLE).exists() {
            fs::copy(self.here.join(BUNDLE), run.join(BUNDLE))?;
        }
        for disk in &self.node.disks {
            let device = disk.device.as_deref().and_then(Path::file_name).unwrap_or_default();
            let link = run.join("disk").join(&disk.link);
            fs::create_dir_all(link.parent().unwrap_or(run))?;
            symlink(Path::new("../..").join(device), link)?;
        }
        fs::create_dir_all(run.join("disk"))?;
        // The name of this process's own network, which it is in already.
        fs::write(run.join("net"), "")?;
        bind(Path::new("/proc/self/ns/net"), &run.join("net"))
    }

    fn nspawn(&self, console: File) -> Result<()> {
        let mut command = Command::new("/usr/bin/systemd-nspawn");
        command
            .args(["--quiet", "--register=no", "--keep-unit", "--directory=/mnt", "--boot"])
            .args(["--network-namespace-path=/run/net", "--resolv-conf=off", "--timezone=off"])
            .args(["--link-journal=no", "--console=read-only", "--kill-signal=SIGRTMIN+4"])
            // Everything but the clock, which is the host's.
            .args(["--capability=all", "--drop-capability=CAP_SYS_TIME"])
            .args(
                Path::new("/run")
                    .join(BUNDLE)
                    .exists()
                    .then(|| format!("--load-credential=trilith.bundle:/run/{BUNDLE}")),
            )
            .args([
                format!("--machine={}", self.node.name),
                format!("--hostname={}", self.node.name),
            ])
            .arg("--bind-ro=/run/disk:/dev/disk")
            .args(self.node.disks.iter().filter_map(|disk| {
                let mut bind = OsString::from("--bind=");
                bind.push(disk.device.as_ref()?);
                Some(bind)
            }))
            .args(KERNEL_ARGUMENTS)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            // /proc/sys/net is the node's own; the rest of /proc/sys and /sys belong to the host and stay as they are.
            .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network")
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console);
        // Nobody waits for it here: the lab's first process inherits it.
        command.spawn().map(drop).context("cannot start systemd-nspawn")
    }
}

/// From now on this process counts from here what else is counted from the host's boot (`time_namespaces(7)`), and so does what
/// it starts: a gate that gives a boot so much time sees one that has just begun.
fn begin_time() -> Result<()> {
    unshare(CloneFlags::from_bits_retain(nix::libc::CLONE_NEWTIME))
        .context("cannot make a time namespace")?;
    let mut offsets = String::new();
    for (name, clock) in
        [("monotonic", ClockId::CLOCK_MONOTONIC), ("boottime", ClockId::CLOCK_BOOTTIME)]
    {
        let _written = writeln!(offsets, "{name} -{} 0", clock_gettime(clock)?.tv_sec());
    }
    fs::write("/proc/self/timens_offsets", offsets).context("cannot set the clocks of a boot")?;
    // By itself only what is forked is in it, and what is started here shares this process's memory until it is something else.
    let own = File::open("/proc/self/ns/time_for_children")?;
    setns(own, CloneFlags::from_bits_retain(nix::libc::CLONE_NEWTIME))
        .context("cannot enter the time of a boot")
}

fn tmpfs(at: &Path) -> Result<()> {
    mount(Some("lab"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .with_context(|| format!("cannot mount a tmpfs on {}", at.display()))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, NONE, MsFlags::MS_BIND, NONE)
        .with_context(|| format!("cannot bind {} to {}", from.display(), to.display()))
}

/// Lays a writable layer, whose files go below `scratch`, over the lower ones.
fn overlay(lower: &[PathBuf], scratch: &Path, to: &Path) -> Result<()> {
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    for folder in [&upper, &work, &to.to_owned()] {
        fs::create_dir_all(folder)?;
    }
    let options =
        format!("{},upperdir={},workdir={}", joined(lower)?, upper.display(), work.display());
    mount(Some("lab"), to, Some("overlay"), MsFlags::empty(), Some(&*options))
        .with_context(|| format!("cannot mount an overlay on {}", to.display()))
}

/// Lower layers as overlayfs takes them.
fn joined(layers: &[PathBuf]) -> Result<String> {
    let names: Vec<_> = layers.iter().map(|layer| layer.display().to_string()).collect();
    ensure!(
        !names.iter().any(|name| name.contains([':', ','])),
        "overlayfs takes no folder with a colon or a comma in its path: {}",
        names.join(" ")
    );
    Ok(format!("lowerdir={}", names.join(":")))
}

/// Makes the tree the root, and the host's files unreachable.
fn pivot(tree: &Path) -> Result<()> {
    let old = tree.join("media");
    pivot_root(tree, &old).context("cannot make the tools tree the root")?;
    chdir("/")?;
    umount2("/media", MntFlags::MNT_DETACH).context("cannot let go of the host's files")
}
