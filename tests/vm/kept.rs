//! The disk that a node which is not installed keeps its /var on, on loop devices: the initrd's own program, with the real
//! `systemd-repart` and file systems. Machines show the rest ([`crate::netboot`]).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::command::{run, sh};
use trilith_tests::loops::{self, Loop};
use trilith_tests::machine::in_tools;

/// Where the initrd has it.
const PROGRAM: &str = "/usr/lib/trilith/trilith-initrd";

/// The stage, and what of /var there is after it. The file system takes what its partition got when `lay-etc` runs, as that
/// of an installed disk does: the kernel lets nobody do that who has not all of its rights, as on a host in a container.
const STAGE: &str = "mkdir -p /sysroot/var && /usr/lib/trilith/trilith-initrd var \
    && findmnt --noheadings --output FSTYPE,SOURCE /sysroot/var && sync --file-system /sysroot/var";

/// The size of a disk that nothing has grown.
const SIZE: u64 = 8 << 30;

/// A machine that was started from the network, and has two disks of these serial numbers.
struct Bench {
    folder: TempDir,
    disks: [Loop; 2],
}

const SERIALS: [&str; 2] = ["DISK1", "DISK2"];

/// What a start came to.
struct Start {
    /// What it said on the console.
    said: String,
    /// Type and device of what is mounted as /var.
    var: String,
}

impl Bench {
    /// With disks of sectors of this size; the node's rule means the first.
    fn new(sector: u32) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("kept").tempdir_in(artifact::target())?;
        let disk = |serial: &str| {
            let file = folder.path().join(serial);
            fs::File::create(&file)?.set_len(SIZE)?;
            Loop::new(&file, sector)
        };
        let bench = Self { disks: [disk(SERIALS[0])?, disk(SERIALS[1])?], folder };
        bench.put(
            "run/trilith-boot/boot.yaml",
            "disk: none\ndata: none2\nhash: none3\nfetched: true\n",
        )?;
        bench.put("run/trilith-boot/live", "")?;
        bench.put("cmdline", "ro\n")?;
        bench.put("net/eth0/type", "1\n")?;
        bench.put("net/eth0/address", "52:54:00:00:02:00\n")?;
        for (disk, serial) in bench.disks.iter().zip(SERIALS) {
            disk.tell(&bench.at("run"), serial)?;
        }
        Ok(bench)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.at(name);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        Ok(fs::write(path, text)?)
    }

    /// What the netboot server gave: the bundle of node 2, whose disk for /var has this rule and more; `None`: nothing.
    fn give(&self, rule: Option<&str>) -> Result<()> {
        let folder = self.at("run/trilith-boot/network");
        let _ = fs::remove_dir_all(&folder);
        let Some(rule) = rule else { return Ok(()) };
        let name = "run/trilith-boot/network/2.yaml";
        self.put(name, &bundle(&self.at("cluster.yaml"), rule)?)
    }

    /// One start of the machine, as far as /var.
    fn start(&self) -> Result<Start> {
        for word in ["ram", "keep.yaml"] {
            let _ = fs::remove_file(self.at("run/trilith-boot").join(word));
        }
        // In a machine, /run is new at each start.
        let _ = fs::remove_dir_all(self.at("run/systemd"));
        let definitions = "overlays/initrd/rootfs/usr/lib/trilith/kept-var";
        let bench = loops::Bench {
            disks: self.disks.iter().collect(),
            run: self.at("run"),
            command_line: self.at("cmdline"),
            more: vec![
                (artifact::repository().join(definitions), "/usr/lib/trilith/kept-var"),
                (artifact::program("trilith-initrd")?, PROGRAM),
                (self.at("net"), "/sys/class/net"),
            ],
        };
        let mut command = bench.command("sh")?;
        command.args(["-c", STAGE]).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().context("cannot start bwrap")?;
        let Output { status, stdout, stderr } = self.while_looking(child)?;
        let (var, said) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        eprintln!("{said}{var}");
        ensure!(status.success(), "trilith-initrd: {status}");
        let var = var.lines().last().unwrap_or_default();
        Ok(Start { said: said.into_owned(), var: var.trim().to_owned() })
    }

    /// The kernel of this host may want to be told of partitions.
    fn while_looking(&self, child: Child) -> Result<Output> {
        let ended = AtomicBool::new(false);
        let look = || {
            while !ended.load(Ordering::Relaxed) {
                self.disks.iter().for_each(|disk| disk.look(1));
            }
        };
        thread::scope(|scope| {
            scope.spawn(look);
            let output = child.wait_with_output();
            ended.store(true, Ordering::Relaxed);
            Ok(output?)
        })
    }

    /// A look at the /var on a disk, or a change of it.
    fn var<T>(&self, disk: usize, look: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let folder = tempfile::tempdir()?;
        let device = self.disks[disk].partition(1);
        let none = None::<&str>;
        mount(Some(device.as_str()), folder.path(), Some("ext4"), MsFlags::empty(), none)?;
        let looked = look(folder.path());
        umount2(folder.path(), MntFlags::empty())?;
        looked
    }

    /// The partitions of a disk: labels.
    fn labels(&self, disk: usize) -> Result<Vec<String>> {
        let device = format!("/dev/{}", self.disks[disk].name());
        let table = run(in_tools("sfdisk", &[])?.args(["--json", &device]))?;
        let table: serde_json::Value = serde_json::from_str(&table)?;
        let parts = table["partitiontable"]["partitions"].as_array().context("no partitions")?;
        Ok(parts.iter().filter_map(|part| Some(part["name"].as_str()?.to_owned())).collect())
    }

    /// Every write through the loop device changes it.
    fn written(&self, disk: usize) -> Result<SystemTime> {
        sh("sync")?;
        Ok(fs::metadata(self.at(SERIALS[disk]))?.modified()?)
    }

    /// That /var is on this disk, and what the initrd leaves says so.
    fn is_on(&self, start: &Start, disk: usize) -> Result<()> {
        let (name, device) = (self.disks[disk].name(), self.disks[disk].partition(1));
        ensure!(start.var.split_whitespace().eq(["ext4", &device]), "/var is {}", start.var);
        ensure!(self.told()? == format!("!disk {name}\n"), "{}", self.told()?);
        ensure!(!self.at("run/trilith-boot/ram").exists(), "/var is said to be memory");
        let said = format!("what this node writes is kept on {name}");
        ensure!(start.said.contains(&said), "{}", start.said);
        let unit = self.at("run/systemd/system/var.mount.d/50-trilith.conf");
        let unit = fs::read_to_string(unit)?;
        let uuid =
            sh(&format!("blkid --probe --output value --match-tag PART_ENTRY_UUID {device}"))?;
        ensure!(unit.contains(&format!("What=/dev/disk/by-partuuid/{}\n", uuid.trim())), "{unit}");
        Ok(())
    }

    /// That /var is memory, and why.
    fn is_memory(&self, start: &Start, why: &str) -> Result<()> {
        ensure!(start.var.split_whitespace().eq(["tmpfs", "var"]), "/var is {}", start.var);
        ensure!(self.at("run/trilith-boot/ram").exists(), "/var is not said to be memory");
        let says = |text: &str| text.contains(why);
        ensure!(says(&start.said) && says(&self.told()?), "{}{}", start.said, self.told()?);
        Ok(())
    }

    /// What the agent reads.
    fn told(&self) -> Result<String> {
        Ok(fs::read_to_string(self.at("run/trilith-boot/keep.yaml"))?)
    }
}

/// The bundle of node 2 with this rule for the disk of its /var.
fn bundle(path: &Path, rule: &str) -> Result<String> {
    let text = fs::read_to_string(artifact::cluster("homelab.yaml"))?;
    let before = "system_disk: {kind: ssd, min_size: 100GB, max_size: 300GB}";
    ensure!(text.contains(before), "homelab.yaml has another rule");
    let (rule, wipe) = rule.split_once(" wipe: ").unwrap_or((rule, ""));
    let text = text.replace(before, &format!("var_disk: {rule}"));
    let node = "    match: {mac: [\"52:54:00:00:02:00\"]}\n";
    ensure!(text.contains(node), "homelab.yaml has another node 2");
    let wiped = if wipe.is_empty() { node.to_owned() } else { format!("{node}    wipe: {wipe}\n") };
    fs::write(path, text.replace(node, &wiped))?;
    Cluster::sample(path)?.bundle(2)
}

/// This /var is the node's own; gives its machine ID.
fn knows_the_node(var: &Path) -> Result<String> {
    let own = |name: &str| var.join("lib/trilith").join(name);
    ensure!(fs::metadata(own(""))?.mode() & 0o777 == 0o700);
    ensure!(fs::read_to_string(own("belonging.yaml"))?.contains("name: hv2"));
    let id = fs::read_to_string(own("machine-id"))?;
    ensure!(id.trim().len() == 32, "{id}");
    Ok(id)
}

const RULE: Option<&str> = Some("{serial: DISK1}");

#[test]
fn a_blank_disk_becomes_var_and_stays_it() -> Result<()> {
    made_kept_and_grown(512)
}

#[test]
fn a_disk_of_large_sectors_becomes_var_and_stays_it() -> Result<()> {
    made_kept_and_grown(4096)
}

fn made_kept_and_grown(sector: u32) -> Result<()> {
    let bench = Bench::new(sector)?;
    bench.give(RULE)?;
    let other = bench.written(1)?;
    bench.is_on(&bench.start()?, 0)?;
    ensure!(bench.labels(0)? == ["trilith-kept-var"], "{:?}", bench.labels(0)?);
    let id = bench.var(0, |var| {
        let plain = fs::metadata(var.join("lib/trilith/bundle.yaml"))?;
        ensure!(plain.mode() & 0o777 == 0o600, "others may read the bundle");
        fs::write(var.join("lib/mine"), "mine")?;
        knows_the_node(var)
    })?;

    // Handed out again.
    bench.is_on(&bench.start()?, 0)?;
    let same = |var: &Path| {
        ensure!(knows_the_node(var)? == id, "another machine ID");
        ensure!(fs::read_to_string(var.join("lib/mine"))? == "mine");
        Ok(())
    };
    bench.var(0, same)?;

    // Once the node has reported in, it gets none; and its disk has grown.
    bench.give(None)?;
    let size = || sh(&format!("blockdev --getsize64 {}", bench.disks[0].partition(1)));
    let before: u64 = size()?.trim().parse()?;
    let file = fs::OpenOptions::new().write(true).open(bench.at(SERIALS[0]))?;
    file.set_len(SIZE + (4 << 30))?;
    sh(&format!("losetup --set-capacity /dev/{}", bench.disks[0].name()))?;
    bench.is_on(&bench.start()?, 0)?;
    let after: u64 = size()?.trim().parse()?;
    ensure!(after - before >= (4 << 30) - (4 << 20), "{before} {after}");
    bench.var(0, same)?;
    ensure!(bench.written(1)? == other, "the other disk was changed");
    Ok(())
}

/// What is on a disk stays, byte for byte, until the cluster file names it; and then that is done once.
#[test]
fn a_foreign_disk_is_left_alone_until_it_is_named() -> Result<()> {
    let bench = Bench::new(512)?;
    bench.give(RULE)?;
    sh(&format!("mkfs.ext4 -q /dev/{}", bench.disks[0].name()))?;
    let before = bench.written(0)?;
    let start = bench.start()?;
    bench.is_memory(&start, "something is on it that is not of this node: ext4")?;
    ensure!(start.said.contains("give the node `wipe: [\"DISK1\"]`"), "{}", start.said);
    ensure!(bench.written(0)? == before, "the disk was changed");

    bench.give(Some("{serial: DISK1} wipe: [DISK1]"))?;
    bench.is_on(&bench.start()?, 0)?;
    let id = bench.var(0, knows_the_node)?;
    bench.is_on(&bench.start()?, 0)?;
    ensure!(bench.var(0, knows_the_node)? == id, "it was wiped again");
    Ok(())
}

/// A disk that fits no rule, and rules that fit none or two.
#[test]
fn what_is_not_certain_is_memory() -> Result<()> {
    let bench = Bench::new(512)?;
    let before = [bench.written(0)?, bench.written(1)?];
    bench.give(Some("{min_size: 5GB}"))?;
    bench.is_memory(&bench.start()?, "2 disks fit the rule: ")?;
    bench.give(Some("{serial: DISK3}"))?;
    let start = bench.start()?;
    bench.is_memory(&start, "no disk fits the rule")?;
    ensure!(start.said.contains("its serial number is DISK1, not DISK3"), "{}", start.said);
    ensure!([bench.written(0)?, bench.written(1)?] == before, "a disk was changed");
    Ok(())
}

/// Without a bundle, one such disk is the node's, and two are nobody's.
#[test]
fn two_kept_disks_are_nobodys_without_a_bundle() -> Result<()> {
    let bench = Bench::new(512)?;
    bench.give(RULE)?;
    bench.is_on(&bench.start()?, 0)?;
    // One that was never installed may lie beside it: it has no such label.
    let other = format!("/dev/{}", bench.disks[1].name());
    let part = "type=c459012a-150e-4d1f-b99d-925b11cffa1e, name=trilith-var";
    let shell = format!("echo '{part}' | sfdisk --quiet --label gpt {other}");
    run(Command::new("sh").args(["-c", &shell]))?;
    bench.give(None)?;
    bench.is_on(&bench.start()?, 0)?;
    sh(&format!("sfdisk --quiet --part-label {other} 1 trilith-kept-var"))?;
    bench.disks[1].look(1);
    let before = [bench.written(0)?, bench.written(1)?];
    bench.is_memory(&bench.start()?, "2 disks hold the /var of a node: ")?;
    ensure!([bench.written(0)?, bench.written(1)?] == before, "a disk was changed");
    Ok(())
}
