//! A node with a disk as an installation leaves it, an operator with two releases, and the updater between them.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use trilith_core::boot::RootHash;
use trilith_core::update::State;
use trilith_tests::artifact;
use trilith_tests::build::Build;
use trilith_tests::command::run;
use trilith_tests::loops::{self, Loop};
use trilith_tests::machine::in_tools;
use trilith_tests::server::Server;

use crate::releases::{Operator, said};

/// How long one state may take to come.
const LIMIT: Duration = Duration::from_mins(5);

/// How often it is looked at. Its partitions appear without udev, and nobody tells when.
const LOOK: Duration = Duration::from_millis(20);

/// Where the image has it.
const PROGRAM: &str = "/usr/lib/trilith/trilith-update";

/// What people read when it is over.
pub(super) const STAGED: &str = "1.0-2 is staged";

/// A node that runs 1.0-1, and an operator who has released 1.0-2.
pub(super) struct World {
    pub(super) operator: Rc<Operator>,
    pub(super) folder: TempDir,
    pub(super) web: Rc<Server>,
    pub(super) disk: Loop,
    first: Rc<Build>,
    pub(super) next: Rc<Build>,
    /// What else the node sees.
    pub(super) more: Vec<(PathBuf, &'static str)>,
}

impl World {
    pub(super) fn new() -> Result<Self> {
        Self::of_size(300_000)
    }

    /// With so many bytes in each of the forty files of a root.
    pub(super) fn of_size(size: usize) -> Result<Self> {
        Self::differing(size, 1)
    }

    /// The same, with so many files that differ.
    pub(super) fn differing(size: usize, files: usize) -> Result<Self> {
        let operator = Operator::new()?;
        let first = Build::differing(&operator.at("first"), ("1.0-1", "one"), size, files)?;
        let next = Build::differing(&operator.at("second"), ("1.0-2", "two"), size, files)?;
        for build in ["first", "second"] {
            let released = operator.releasing(build)?.args(["--level", "3"]).output()?;
            ensure!(released.status.success(), "{}", said(&released));
        }
        let web = Server::start(&operator.at("releases"), Ipv4Addr::LOCALHOST.into())?;
        Self::of(Rc::new(operator), Rc::new(web), [first, next].map(Rc::new))
    }

    /// Another node as this one was at first, with the same operator.
    pub(super) fn another(&self) -> Result<Self> {
        let builds = [&self.first, &self.next].map(Rc::clone);
        Self::of(Rc::clone(&self.operator), Rc::clone(&self.web), builds)
    }

    fn of(operator: Rc<Operator>, web: Rc<Server>, builds: [Rc<Build>; 2]) -> Result<Self> {
        let [first, next] = builds;
        let folder = tempfile::Builder::new().prefix("update").tempdir_in(artifact::target())?;
        let disk = divided(&folder, &first, "1.0-1")?;
        let world = Self { operator, folder, web, disk, first, next, more: Vec::new() };
        world.tell(&world.first)?;
        let uki = world.operator.whole(&world.operator.manifest("1.0-1")?.uki)?;
        world.put("esp/EFI/Linux/trilith-6.12.0-0123.efi", &uki)?;
        world.wish(&world.web.url(), "")?;
        Ok(world)
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn put(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.at(name);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        Ok(fs::write(path, content)?)
    }

    /// What initrd and udev have left in /run.
    pub(super) fn tell(&self, first: &Build) -> Result<()> {
        let disk = self.disk.name();
        let boot = format!("disk: {disk}\ndata: {disk}p2\nhash: {disk}p3\n");
        self.put("run/trilith-boot/boot.yaml", boot.as_bytes())?;
        self.put("cmdline", format!("ro roothash={}\n", first.hash).as_bytes())?;
        fs::create_dir_all(self.at("var"))?;
        self.disk.tell(&self.at("run"), "DISK1")
    }

    pub(super) fn trust(&self) -> Result<String> {
        let root = fs::read(self.operator.at("keys/roots/1.root.json"))?;
        Ok(format!("{:x}", Sha256::digest(root)))
    }

    /// Wishes for 1.0-2.
    pub(super) fn wish(&self, source: &str, more: &str) -> Result<()> {
        let trust = self.trust()?;
        let text = format!("version: 1.0-2\nsource: {source}\ntrust: {trust}\n{more}");
        self.put("run/trilith/update/wish.yaml", text.as_bytes())
    }

    /// `trilith-update`, with the tools tree as the root.
    pub(super) fn update(&self, arguments: &[&str]) -> Result<Updating<'_>> {
        let _ = fs::remove_file(self.at("run/trilith-update/state.yaml"));
        let mut more = vec![
            (artifact::program("trilith-update")?, PROGRAM),
            (self.at("esp"), "/esp"),
            (self.at("var"), "/var/lib/trilith-update"),
        ];
        more.extend(self.more.iter().cloned());
        let (run, command_line) = (self.at("run"), self.at("cmdline"));
        let bench = loops::Bench { disks: vec![&self.disk], run, command_line, more };
        let mut command = bench.command(PROGRAM)?;
        command.args(["--esp", "/esp"]).args(arguments).stdin(Stdio::null());
        Ok(Updating { world: self, child: command.spawn().context("cannot start bwrap")? })
    }

    pub(super) fn state(&self) -> State {
        let text = fs::read_to_string(self.at("run/trilith-update/state.yaml"));
        text.ok().and_then(|text| State::parse(&text).ok()).unwrap_or_default()
    }

    pub(super) fn labels(&self) -> Result<Vec<String>> {
        let device = format!("/dev/{}", self.disk.name());
        let table = run(in_tools("sfdisk", &[])?.args(["--json", &device]))?;
        let table: serde_json::Value = serde_json::from_str(&table)?;
        let parts = table["partitiontable"]["partitions"].as_array().context("no partitions")?;
        Ok(parts.iter().filter_map(|part| Some(part["name"].as_str()?.to_owned())).collect())
    }

    /// Slot B is 1.0-2 and its system is staged, and nothing else is another than before.
    pub(super) fn is_staged(&self) -> Result<()> {
        let labels = self.labels()?;
        let expected = ["trilith_1.0-1", "trilith_1.0-1", "trilith_1.0-2", "trilith_1.0-2"];
        ensure!(labels[1..5] == expected, "{labels:?}");
        for (number, ending) in [(4, "root"), (5, "verity")] {
            let there = self.begins_with(number, &fs::read(self.next.path(ending))?)?;
            ensure!(there, "partition {number}");
        }
        let uki = self.operator.whole(&self.operator.manifest("1.0-2")?.uki)?;
        ensure!(fs::read(self.at("esp/trilith/staged/trilith_1.0-2.efi"))? == uki, "the system");
        self.boots(&["trilith-6.12.0-0123.efi"])
    }

    /// Whether these are all systems that a boot loader sees.
    pub(super) fn boots(&self, names: &[&str]) -> Result<()> {
        let found = fs::read_dir(self.at("esp/EFI/Linux"))?;
        let mut found: Vec<String> =
            found.filter_map(|it| it.ok()?.file_name().into_string().ok()).collect();
        found.sort();
        ensure!(found == names, "{found:?}");
        Ok(())
    }

    pub(super) fn begins_with(&self, number: u32, content: &[u8]) -> Result<bool> {
        let mut bytes = vec![0; content.len()];
        fs::File::open(self.disk.partition(number))?.read_exact_at(&mut bytes, 0)?;
        Ok(bytes == content)
    }

    /// Slot B is free again and full of something else, nothing is staged, and nothing is remembered.
    pub(super) fn reset(&self) -> Result<()> {
        let device = format!("/dev/{}", self.disk.name());
        for number in ["4", "5"] {
            let uuid = uuid::Uuid::new_v4().to_string();
            for (what, value) in [("--part-label", "_empty"), ("--part-uuid", &uuid)] {
                let mut sfdisk = in_tools("sfdisk", &[])?;
                sfdisk.args(["--no-reread", "--no-tell-kernel", what, &device, number, value]);
                run(&mut sfdisk)?;
            }
        }
        for number in [4, 5] {
            let file = fs::OpenOptions::new().write(true).open(self.disk.partition(number))?;
            file.write_all_at(&vec![0x55; 32 << 20], 0)?;
        }
        fs::remove_dir_all(self.at("var"))?;
        fs::create_dir_all(self.at("var"))?;
        let _ = fs::remove_dir_all(self.at("esp/trilith"));
        Ok(())
    }

    /// Slot B is free again, and what was seen of metadata is remembered.
    pub(super) fn reset_release(&self) -> Result<()> {
        let kept = self.at("kept");
        let _ = fs::remove_dir_all(&kept);
        fs::rename(self.at("var"), &kept)?;
        fs::create_dir_all(self.at("var"))?;
        self.reset()?;
        fs::remove_dir_all(self.at("var"))?;
        Ok(fs::rename(kept, self.at("var"))?)
    }

    /// Takes ways away: the targets of 1.0-2 whose names have this in them.
    pub(super) fn lose(&self, words: &[&str]) -> Result<()> {
        let is_one =
            |name: &str| name.contains("1.0-2") && words.iter().any(|it| name.contains(it));
        self.targets(is_one)?.iter().try_for_each(|path| Ok(fs::remove_file(path)?))
    }

    /// Changes a bit in so many places of each target whose name has this in it.
    pub(super) fn change(&self, word: &str, places: usize) -> Result<()> {
        for path in self.targets(|name| name.contains(word))? {
            let mut content = fs::read(&path)?;
            for place in 1..=places {
                let at = content.len() * place / (places + 1);
                content[at] ^= 1;
            }
            fs::write(path, content)?;
        }
        Ok(())
    }

    fn targets(&self, is_one: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.operator.at("releases/targets"))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let named = |path: &PathBuf| path.file_name()?.to_str().map(&is_one);
        Ok(paths.filter(|path| named(path).unwrap_or_default()).collect())
    }

    /// Fetches from a server that falls silent after so many bytes, and is killed.
    pub(super) fn cut(&self, bytes: u64) -> Result<()> {
        self.web.allow(Some(bytes));
        let killed = self.update(&[])?;
        self.web.wait_silent(LIMIT)?;
        drop(killed);
        self.web.allow(None);
        Ok(())
    }

    /// Fetches with a server that falls silent, and a SIGKILL each time it does. Gives how many bytes were given.
    pub(super) fn cut_and_fetched(&self, steps: u64) -> Result<u64> {
        self.web.take_sent();
        for _ in 0..4 {
            self.cut(steps)?;
        }
        self.update(&[])?.wait(STAGED)?;
        self.is_staged()?;
        Ok(self.web.take_sent())
    }
}

/// A disk as an installation leaves it, with this release in slot A.
pub(super) fn divided(folder: &TempDir, first: &Build, version: &str) -> Result<Loop> {
    let path = folder.path().join("disk");
    fs::File::create(&path)?.set_len(24 << 30)?;
    let root: RootHash = first.hash.clone().try_into()?;
    let (data, tree) = (root.data(), root.tree());
    let (root, verity) =
        ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5");
    let table = format!(
        "label: gpt\n\
         size=2GiB, type=uefi, name=trilith-esp\n\
         size=3GiB, type={root}, name=trilith_{version}, uuid={data}\n\
         size=64MiB, type={verity}, name=trilith_{version}, uuid={tree}\n\
         size=3GiB, type={root}, name=_empty\n\
         size=64MiB, type={verity}, name=_empty\n\
         type=c459012a-150e-4d1f-b99d-925b11cffa1e, name=trilith-var\n"
    );
    let script = folder.path().join("table");
    fs::write(&script, table)?;
    let divide = "sfdisk --quiet $0 < $1";
    run(in_tools("sh", &[folder.path()])?.args(["-c", divide]).arg(&path).arg(&script))?;
    let disk = Loop::new(&path, 512)?;
    disk.look(6);
    for (number, ending) in [(2, "root"), (3, "verity")] {
        let device = fs::OpenOptions::new().write(true).open(disk.partition(number))?;
        device.write_all_at(&fs::read(first.path(ending))?, 0)?;
        device.sync_all()?;
    }
    Ok(disk)
}

/// The program while it runs; killed when it is dropped.
pub(super) struct Updating<'a> {
    world: &'a World,
    child: Child,
}

impl Updating<'_> {
    /// Waits until it says this.
    pub(super) fn wait(mut self, words: &str) -> Result<State> {
        self.until(words)
    }

    pub(super) fn until(&mut self, words: &str) -> Result<State> {
        self.until_so(words, |state| state.lines().iter().any(|line| line.contains(words)))
    }

    /// Waits until its state is so, for people: in these words.
    pub(super) fn until_so(
        &mut self,
        words: &str,
        is_so: impl Fn(&State) -> bool,
    ) -> Result<State> {
        let begin = Instant::now();
        loop {
            let state = self.world.state();
            if is_so(&state) {
                return Ok(state);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("trilith-update: {status}");
            }
            ensure!(begin.elapsed() < LIMIT, "{words:?} is not said, but: {:?}", state.lines());
            self.world.disk.look(6);
            // It needs both cores.
            std::thread::sleep(LOOK);
        }
    }

    /// Has the program itself get a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let id = *self.inside().first().context("it does not run")?;
        Ok(kill(Pid::from_raw(id), signal)?)
    }

    /// The most memory that it had, in KiB.
    pub(super) fn peak(&self) -> Result<u64> {
        let id = *self.inside().first().context("it does not run")?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
        Ok(number.parse()?)
    }

    /// The program, and what it has started: below bwrap(1), each the child of the one before.
    fn inside(&self) -> Vec<i32> {
        let child = |id: &i32| {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
            children.split_whitespace().next()?.parse().ok()
        };
        let bwrap = i32::try_from(self.child.id()).unwrap_or_default();
        std::iter::successors(Some(bwrap), child).skip(1).collect()
    }
}

impl Drop for Updating<'_> {
    fn drop(&mut self) {
        // bwrap does not always take it with it.
        for id in self.inside() {
            let _gone = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
