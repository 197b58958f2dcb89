//! An installation onto a loop device: the real program, `systemd-repart`, `veritysetup` and file systems, up to where it
//! takes a kernel with FAT and a firmware. From there on, machines show it ([`crate::install`]).

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::command::{run, sh};
use trilith_tests::loops::{self, Loop};
use trilith_tests::machine::{in_tools, in_tools_with};

/// How long one state of an installation may take to come.
const LIMIT: Duration = Duration::from_secs(100);

/// Where the image has it.
const PROGRAM: &str = "/usr/lib/trilith/trilith-install";

/// A machine that was booted from a medium and has one disk.
struct Bench {
    folder: TempDir,
    medium: Loop,
    disk: Loop,
    hash: String,
}

impl Bench {
    /// With a disk of sectors of this size.
    fn new(sector: u32) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("install").tempdir_in(artifact::target())?;
        let at = |name: &str| folder.path().join(name);
        let hash = release(folder.path())?;
        let disk = fs::File::create(at("disk"))?;
        disk.set_len(40 << 30)?;
        let (medium, disk) = (Loop::new(&at("release"), 512)?, Loop::new(&at("disk"), sector)?);
        let bench = Self { folder, medium, disk, hash };
        bench.tell()?;
        Ok(bench)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What initrd, udev and agent have left in /run.
    fn tell(&self) -> Result<()> {
        let put = |name: &str, text: &str| -> Result<()> {
            let path = self.at(name);
            fs::create_dir_all(path.parent().context("no folder")?)?;
            Ok(fs::write(path, text)?)
        };
        let medium = self.medium.name();
        let boot = format!("disk: {medium}\ndata: {medium}p2\nhash: {medium}p3\n");
        put("run/trilith-boot/boot.yaml", &boot)?;
        put("cmdline", &format!("ro roothash={}\n", self.hash))?;
        for (disk, serial) in [(&self.medium, "MEDIUM"), (&self.disk, "DISK1")] {
            disk.tell(&self.at("run"), serial)?;
        }
        put("run/trilith/install/bundle.yaml", &bundle(&self.folder)?)
    }

    /// `trilith-install`, with the tools tree as the root. What it may take for a disk of the machine is ours alone.
    fn install(&self) -> Result<Installing<'_>> {
        let _ = fs::remove_file(self.at("run/trilith-install/state"));
        let definitions = artifact::repository().join("overlays/install");
        let bench = loops::Bench {
            disks: vec![&self.medium, &self.disk],
            run: self.at("run"),
            command_line: self.at("cmdline"),
            more: vec![
                (definitions, "/usr/lib/trilith/install"),
                (artifact::program("trilith-install")?, PROGRAM),
            ],
        };
        let mut command = bench.command(PROGRAM)?;
        command.stdin(Stdio::null());
        Ok(Installing { bench: self, child: command.spawn().context("cannot start bwrap")? })
    }

    fn said(&self) -> String {
        fs::read_to_string(self.at("run/trilith-install/state")).unwrap_or_default()
    }

    fn partition(&self, number: u32) -> String {
        self.disk.partition(number)
    }

    /// Labels of the partitions, in order.
    fn labels(&self) -> Result<Vec<String>> {
        let table =
            run(in_tools("sfdisk", &[])?.args(["--json", &format!("/dev/{}", self.disk.name())]))?;
        let table: serde_json::Value = serde_json::from_str(&table)?;
        let parts = table["partitiontable"]["partitions"].as_array().context("no partitions")?;
        Ok(parts.iter().filter_map(|part| Some(part["name"].as_str()?.to_owned())).collect())
    }

    /// Slot A is the release of the medium.
    fn holds_the_release(&self) -> Result<()> {
        for number in [2, 3] {
            let release = self.medium.partition(number);
            ensure!(begins_with(&self.partition(number), &release)?, "partition {number}");
        }
        Ok(())
    }

    /// This /var is the node's own; gives its machine ID.
    fn knows_the_node(&self, var: &Path) -> Result<String> {
        let own = |name: &str| var.join("lib/trilith").join(name);
        let mode = |name: &str| Ok::<_, anyhow::Error>(fs::metadata(own(name))?.mode() & 0o777);
        ensure!(mode("bundle.yaml")? == 0o600 && mode("")? == 0o700);
        let wish = self.at("run/trilith/install/bundle.yaml");
        ensure!(fs::read(own("bundle.yaml"))? == fs::read(wish)?);
        ensure!(fs::read_to_string(own("belonging.yaml"))?.contains("name: hv2"));
        let id = fs::read_to_string(own("machine-id"))?;
        ensure!(id.trim().len() == 32, "{id}");
        Ok(id)
    }

    /// A look at the disk's /var.
    fn var<T>(&self, look: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let folder = tempfile::tempdir()?;
        let device = self.partition(6);
        mount(
            Some(device.as_str()),
            folder.path(),
            Some("ext4"),
            MsFlags::MS_RDONLY,
            None::<&str>,
        )?;
        let looked = look(folder.path());
        umount2(folder.path(), MntFlags::empty())?;
        looked
    }
}

/// The program while it runs; killed when it is dropped.
struct Installing<'a> {
    bench: &'a Bench,
    child: Child,
}

impl Installing<'_> {
    /// Waits until it says this.
    fn wait(&mut self, words: &str) -> Result<()> {
        let begin = Instant::now();
        while !self.bench.said().contains(words) {
            if let Some(status) = self.child.try_wait()? {
                bail!("trilith-install: {status}");
            }
            ensure!(begin.elapsed() < LIMIT, "{words:?} is not said, but: {}", self.bench.said());
            self.bench.disk.look(6);
        }
        Ok(())
    }
}

impl Drop for Installing<'_> {
    fn drop(&mut self) {
        // bwrap takes the program with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A release of a few megabytes, as overlays/repart divides it; gives its root hash.
fn release(folder: &Path) -> Result<String> {
    let root = folder.join("root");
    for name in ["usr/lib", "boot/EFI/Linux", "boot/EFI/systemd", "efi"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::write(root.join("usr/lib/os-release"), "IMAGE_ID=trilith\nIMAGE_VERSION=1\n")?;
    fs::write(root.join("boot/EFI/Linux/trilith_1.efi"), "kernel")?;
    let bytes: Vec<u8> =
        (0..6_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(root.join("usr/lib/much"), bytes)?;
    let definitions = artifact::repository().join("overlays/repart");
    let more = ["--dir", "/var/tmp"].map(String::from);
    let mut repart = in_tools_with("systemd-repart", &[folder, &definitions], &more)?;
    repart.arg(format!("--definitions={}", definitions.display()));
    repart.arg(format!("--root={}", root.display()));
    repart.args(["--empty=create", "--size=auto", "--dry-run=no", "--offline=yes", "--json=short"]);
    let made = run(repart.args(["--seed=random"]).arg(folder.join("release")))?;
    let made: serde_json::Value = serde_json::from_str(&made)?;
    let hash = made.as_array().context("no partitions")?.iter();
    let hash = hash.filter_map(|part| part["roothash"].as_str()).find(|hash| hash.len() == 64);
    Ok(hash.context("no root hash")?.to_owned())
}

/// The bundle of a node whose system disk is `DISK1`.
fn bundle(folder: &TempDir) -> Result<String> {
    let text = fs::read_to_string(artifact::cluster("homelab.yaml"))?;
    let rule = "system_disk: {kind: ssd, min_size: 100GB, max_size: 300GB}";
    ensure!(text.contains(rule), "homelab.yaml has another rule");
    let path = folder.path().join("cluster.yaml");
    fs::write(&path, text.replace(rule, "system_disk: {serial: DISK1}"))?;
    Cluster::sample(&path)?.bundle(2)
}

/// Whether a partition begins with the same bytes as another one that is all of it.
fn begins_with(partition: &str, other: &str) -> Result<bool> {
    let (one, other) = (fs::File::open(partition)?, fs::read(other)?);
    let mut bytes = vec![0; other.len()];
    one.read_exact_at(&mut bytes, 0)?;
    Ok(bytes == other)
}

/// How far it comes without FAT and firmware: everything is on the disk but what makes it boot.
const END: &str = "not installed yet: write loader and kernel";

#[test]
fn a_release_comes_onto_a_disk_however_often_it_is_cut() -> Result<()> {
    cut_and_installed(512)
}

#[test]
fn a_release_comes_onto_a_disk_of_large_sectors() -> Result<()> {
    cut_and_installed(4096)
}

/// Killed at any point and begun again, it ends the same.
fn cut_and_installed(sector: u32) -> Result<()> {
    let bench = Bench::new(sector)?;
    for cut in ["dividing it", "copying the release: 0 %", "copying the release: 40 %", "reading"] {
        bench.install()?.wait(cut)?;
    }
    bench.install()?.wait(END)?;
    let labels = bench.labels()?;
    ensure!(labels[1] == labels[2] && labels[1] != "_empty", "{labels:?}");
    ensure!(labels[3..] == ["_empty", "_empty", "trilith-var"], "{labels:?}");
    bench.holds_the_release()?;
    let id = bench.var(|var| bench.knows_the_node(var))?;
    bench.install()?.wait(END)?;
    ensure!(bench.var(|var| bench.knows_the_node(var))? == id, "another machine ID");
    Ok(())
}

/// What is on a disk stays, byte for byte, until the cluster file names it.
#[test]
fn a_foreign_disk_is_left_alone() -> Result<()> {
    let bench = Bench::new(512)?;
    let disk = format!("/dev/{}", bench.disk.name());
    sh(&format!("mkfs.ext4 -q {disk}"))?;
    // Every write through the loop device changes it.
    sh("sync")?;
    let written = || Ok::<_, anyhow::Error>(fs::metadata(bench.at("disk"))?.modified()?);
    let before = written()?;
    bench.install()?.wait("something is on it that is not of this node: ext4")?;
    ensure!(bench.said().contains("give the node `wipe: [\"DISK1\"]`"), "{}", bench.said());
    ensure!(written()? == before, "the disk was changed");
    Ok(())
}

/// The initrd's own definitions grow /var, and touch nothing else.
#[test]
fn var_grows_with_its_disk() -> Result<()> {
    let bench = Bench::new(512)?;
    bench.install()?.wait(END)?;
    let labels = bench.labels()?;
    let size = || sh(&format!("blockdev --getsize64 {}", bench.partition(6)));
    let before: u64 = size()?.trim().parse()?;
    let file = fs::OpenOptions::new().write(true).open(bench.at("disk"))?;
    file.set_len(50 << 30)?;
    let disk = format!("/dev/{}", bench.disk.name());
    sh(&format!("losetup --set-capacity {disk}"))?;
    let definitions = artifact::repository().join("overlays/initrd/rootfs/usr/lib/repart.d");
    let more = ["--cap-add", "ALL"].map(String::from);
    let mut repart = in_tools_with("systemd-repart", &[&definitions], &more)?;
    let definitions = format!("--definitions={}", definitions.display());
    run(repart.args(["--dry-run=no", &definitions, &disk]))?;
    ensure!(bench.labels()? == labels, "{:?}", bench.labels()?);
    let after: u64 = size()?.trim().parse()?;
    ensure!(after - before >= (10 << 30) - (4 << 20), "{before} {after}");
    bench.holds_the_release()?;
    bench.var(|var| bench.knows_the_node(var)).map(drop)
}
