//! A release comes into the free slot of a disk that was installed: the real program, real releases, a web server, loop
//! devices. The ESP is a folder: not every kernel that runs this has FAT. From there on, machines show it.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use trilith_core::boot::RootHash;
use trilith_core::update::State;
use trilith_tests::artifact;
use trilith_tests::build::Build;
use trilith_tests::command::run;
use trilith_tests::loops::{self, Loop};
use trilith_tests::machine::in_tools;
use trilith_tests::web::Web;

use super::releases::{Operator, done, said};

/// How long one state may take to come.
const LIMIT: Duration = Duration::from_secs(300);

/// Where the image has it.
const PROGRAM: &str = "/usr/lib/trilith/trilith-update";

/// What people read when it is over.
const STAGED: &str = "1.0-2 is staged";

/// A node that runs 1.0-1, and an operator who has released 1.0-2.
struct World {
    operator: Operator,
    folder: TempDir,
    web: Web,
    disk: Loop,
    next: Build,
    /// What else the node sees.
    more: Vec<(PathBuf, &'static str)>,
}

impl World {
    fn new() -> Result<Self> {
        Self::of_size(300_000)
    }

    /// With so many bytes in each of the forty files of a root.
    fn of_size(size: usize) -> Result<Self> {
        let operator = Operator::new()?;
        let first = Build::of_size(&operator.at("first"), "1.0-1", "one", size)?;
        let next = Build::of_size(&operator.at("second"), "1.0-2", "two", size)?;
        for build in ["first", "second"] {
            let released = operator.releasing(build)?.args(["--level", "3"]).output()?;
            ensure!(released.status.success(), "{}", said(&released));
        }
        let folder = tempfile::Builder::new().prefix("update").tempdir_in(artifact::target())?;
        let disk = divided(&folder, &first)?;
        let web = Web::of(&operator.at("releases"))?;
        let world = Self { operator, folder, web, disk, next, more: Vec::new() };
        world.tell(&first)?;
        let uki = world.operator.whole(&world.operator.manifest("1.0-1")?.uki)?;
        world.put("esp/EFI/Linux/trilith-6.12.0-0123.efi", &uki)?;
        world.wish(world.web.url(), "")?;
        Ok(world)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.at(name);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        Ok(fs::write(path, content)?)
    }

    /// What initrd and udev have left in /run.
    fn tell(&self, first: &Build) -> Result<()> {
        let disk = self.disk.name();
        let boot = format!("disk: {disk}\ndata: {disk}p2\nhash: {disk}p3\n");
        self.put("run/trilith-boot/boot.yaml", boot.as_bytes())?;
        self.put("cmdline", format!("ro roothash={}\n", first.hash).as_bytes())?;
        fs::create_dir_all(self.at("var"))?;
        self.disk.tell(&self.at("run"), "DISK1")
    }

    fn trust(&self) -> Result<String> {
        let root = fs::read(self.operator.at("keys/roots/1.root.json"))?;
        Ok(Sha256::digest(root).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Wishes for 1.0-2.
    fn wish(&self, source: &str, more: &str) -> Result<()> {
        let trust = self.trust()?;
        let text = format!("version: 1.0-2\nsource: {source}\ntrust: {trust}\n{more}");
        self.put("run/trilith/update/wish.yaml", text.as_bytes())
    }

    /// `trilith-update`, with the tools tree as the root.
    fn update(&self, arguments: &[&str]) -> Result<Updating<'_>> {
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

    fn state(&self) -> State {
        let text = fs::read_to_string(self.at("run/trilith-update/state.yaml"));
        text.ok().and_then(|text| State::parse(&text).ok()).unwrap_or_default()
    }

    fn labels(&self) -> Result<Vec<String>> {
        let device = format!("/dev/{}", self.disk.name());
        let table = run(in_tools("sfdisk", &[])?.args(["--json", &device]))?;
        let table: serde_json::Value = serde_json::from_str(&table)?;
        let parts = table["partitiontable"]["partitions"].as_array().context("no partitions")?;
        Ok(parts.iter().filter_map(|part| Some(part["name"].as_str()?.to_owned())).collect())
    }

    /// Slot B is 1.0-2 and its system is staged, and nothing else is another than before.
    fn is_staged(&self) -> Result<()> {
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
    fn boots(&self, names: &[&str]) -> Result<()> {
        let found = fs::read_dir(self.at("esp/EFI/Linux"))?;
        let mut found: Vec<String> =
            found.filter_map(|it| it.ok()?.file_name().into_string().ok()).collect();
        found.sort();
        ensure!(found == names, "{found:?}");
        Ok(())
    }

    fn begins_with(&self, number: u32, content: &[u8]) -> Result<bool> {
        let mut bytes = vec![0; content.len()];
        fs::File::open(self.disk.partition(number))?.read_exact_at(&mut bytes, 0)?;
        Ok(bytes == content)
    }

    /// Slot B is free again and full of something else, nothing is staged, and nothing is remembered.
    fn reset(&self) -> Result<()> {
        let device = format!("/dev/{}", self.disk.name());
        for number in ["4", "5"] {
            let uuid = uuid::Uuid::new_v4().to_string();
            run(in_tools("sfdisk", &[])?.args(["--no-reread", "--no-tell-kernel"]).args([
                "--part-label",
                &device,
                number,
                "_empty",
            ]))?;
            run(in_tools("sfdisk", &[])?.args(["--no-reread", "--no-tell-kernel"]).args([
                "--part-uuid",
                &device,
                number,
                &uuid,
            ]))?;
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

    /// Takes ways away: the targets of 1.0-2 whose names have this in them.
    fn lose(&self, words: &[&str]) -> Result<()> {
        for entry in fs::read_dir(self.operator.at("releases/targets"))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.contains("1.0-2") && words.iter().any(|word| name.contains(word)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Fetches with a server that falls silent, and a SIGKILL each time it does. Gives how many bytes were given.
    fn cut_and_fetched(&self, steps: u64) -> Result<u64> {
        let before = self.web.given();
        for _ in 0..4 {
            self.web.allow(Some(steps));
            let updating = self.update(&[])?;
            updating.silent()?;
        }
        self.web.allow(None);
        self.update(&[])?.wait(STAGED)?;
        self.is_staged()?;
        Ok(self.web.given() - before)
    }
}

/// A disk as an installation leaves it, with this release in slot A.
fn divided(folder: &TempDir, first: &Build) -> Result<Loop> {
    let path = folder.path().join("disk");
    fs::File::create(&path)?.set_len(24 << 30)?;
    let root: RootHash = first.hash.clone().try_into()?;
    let (data, tree) = (root.data(), root.tree());
    let (root, verity) =
        ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5");
    let table = format!(
        "label: gpt\n\
         size=2GiB, type=uefi, name=trilith-esp\n\
         size=3GiB, type={root}, name=trilith_1.0-1, uuid={data}\n\
         size=64MiB, type={verity}, name=trilith_1.0-1, uuid={tree}\n\
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
struct Updating<'a> {
    world: &'a World,
    child: Child,
}

impl Updating<'_> {
    /// Waits until it says this.
    fn wait(mut self, words: &str) -> Result<State> {
        self.until(words)
    }

    fn until(&mut self, words: &str) -> Result<State> {
        let begin = Instant::now();
        loop {
            let state = self.world.state();
            if state.lines().iter().any(|line| line.contains(words)) {
                return Ok(state);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("trilith-update: {status}");
            }
            ensure!(begin.elapsed() < LIMIT, "{words:?} is not said, but: {:?}", state.lines());
            self.world.disk.look(6);
            std::thread::yield_now();
        }
    }

    /// Waits until the server gives nothing any more, and kills it.
    fn silent(mut self) -> Result<()> {
        let mut last = (self.world.web.given(), Instant::now());
        while last.1.elapsed() < Duration::from_secs(2) {
            let given = self.world.web.given();
            if given != last.0 {
                last = (given, Instant::now());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("trilith-update: {status}");
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// The most memory that it had, in KiB.
    fn peak(&self) -> Result<u64> {
        let mut id = self.child.id();
        loop {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            let Some(child) = children.split_whitespace().next() else { break };
            id = child.parse()?;
        }
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
        Ok(number.parse()?)
    }
}

impl Drop for Updating<'_> {
    fn drop(&mut self) {
        // bwrap takes the program with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the metadata cost is fetched with each start.
const METADATA: u64 = 256 << 10;

#[test]
fn by_every_way_however_often_it_is_cut() -> Result<()> {
    let world = World::new()?;
    let next = world.operator.manifest("1.0-2")?;
    let delta = next.root.deltas[0].download.size;
    let fetched = world.cut_and_fetched(delta / 2)?;
    eprintln!("by deltas: {fetched} bytes, the root's delta has {delta}");
    ensure!(fetched < 8 * delta + 8 * METADATA, "{fetched}");

    world.reset()?;
    world.lose(&[".from"])?;
    let seed = next.root.chunks.as_ref().context("no chunks")?.seeds[0].fetch;
    let fetched = world.cut_and_fetched(seed / 2)?;
    eprintln!("by chunks: {fetched} bytes, the root lacks {seed}");
    ensure!(fetched < next.root.whole.size, "{fetched}");

    world.reset()?;
    world.lose(&[".cba", "chunks"])?;
    let whole = next.root.whole.size + next.verity.whole.size + next.uki.whole.size;
    let fetched = world.cut_and_fetched(next.root.whole.size / 3)?;
    eprintln!("by all of it: {fetched} bytes of {whole}");
    // After each of the four cuts, at most what was not remembered yet.
    ensure!(fetched < whole + 4 * (4 << 20) + 8 * METADATA, "{fetched}");
    Ok(())
}

#[test]
fn from_a_folder_and_of_the_memory_that_it_takes() -> Result<()> {
    let mut world = World::of_size(4_500_000)?;
    world.more.push((world.operator.at("releases"), "/releases"));
    world.wish("/releases", "")?;
    let begin = Instant::now();
    let mut updating = world.update(&[])?;
    let state = updating.until(STAGED)?;
    let peak = updating.peak()?;
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!(
        "a root of 180 MB by deltas: {seconds:.1} s, {} bytes, peak {peak} KiB",
        state.fetched
    );
    drop(updating);
    world.is_staged()?;
    ensure!(peak < 200 << 10, "{peak} KiB");
    Ok(())
}

#[test]
fn nothing_that_was_changed_comes_into_use() -> Result<()> {
    let world = World::new()?;
    for entry in fs::read_dir(world.operator.at("releases/targets"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.contains("1.0-2.root.") {
            let mut content = fs::read(&path)?;
            let middle = content.len() / 2;
            content[middle] ^= 1;
            fs::write(&path, content)?;
        }
    }
    let state = world.update(&[])?.wait("not updated yet")?;
    let words = state.failed.unwrap_or_default();
    ensure!(words.contains("not what was signed"), "{words}");
    let labels = world.labels()?;
    ensure!(labels[3..5] == ["_empty", "_empty"], "{labels:?}");
    world.boots(&["trilith-6.12.0-0123.efi"])
}

#[test]
fn metadata_that_must_not_count_are_refused() -> Result<()> {
    let world = World::new()?;
    let metadata = world.operator.at("releases/metadata");
    let read = |name: &str| fs::read(metadata.join(name));
    let refresh = |days: &str| -> Result<()> {
        let mut refresh = world.operator.trilith(&["release", "refresh"])?;
        refresh.arg(world.operator.at("releases")).args(["--timestamp-days", days]);
        done(refresh.arg("--identity").arg(world.operator.at("identity")))
    };
    let right = ["--trust-clock"];
    let old = read("timestamp.json")?;
    refresh("30")?;
    let new = read("timestamp.json")?;
    world.update(&right)?.wait(STAGED)?;
    let refused = |words: &str| -> Result<()> {
        world.reset_release()?;
        let state = world.update(&right)?.wait("not updated yet")?;
        let failed = state.failed.unwrap_or_default();
        ensure!(failed.contains(words), "{failed}");
        Ok(())
    };
    // Older than what was seen.
    fs::write(metadata.join("timestamp.json"), old)?;
    refused("previously fetched version")?;
    fs::write(metadata.join("timestamp.json"), &new)?;
    // By a key that was replaced.
    let mut rotate = world.operator.trilith(&["keys", "rotate", "timestamp"])?;
    rotate.arg("--root-keys").arg(world.operator.at("safe"));
    done(rotate.arg("--identity").arg(world.operator.at("identity")))?;
    fs::copy(world.operator.at("keys/roots/2.root.json"), metadata.join("2.root.json"))?;
    refused("Failed to verify timestamp metadata")?;
    // Expired; but for a clock that nobody has set.
    refresh("0")?;
    refused("timestamp metadata is expired")?;
    let state = world.update(&[])?.wait(STAGED)?;
    ensure!(state.notes.iter().any(|note| note.contains("not synchronised")), "{:?}", state.notes);
    // By somebody else.
    world.reset_release()?;
    world.wish(world.web.url(), "again: true\n")?;
    let wish = world.at("run/trilith/update/wish.yaml");
    let text = fs::read_to_string(&wish)?.replace(&world.trust()?, &"a".repeat(64));
    fs::write(wish, text)?;
    let state = world.update(&right)?.wait("not updated yet")?;
    let failed = state.failed.unwrap_or_default();
    ensure!(failed.contains("signed by somebody else"), "{failed}");
    Ok(())
}

impl World {
    /// Slot B is free again, and what was seen of metadata is remembered.
    fn reset_release(&self) -> Result<()> {
        let kept = self.at("kept");
        let _ = fs::remove_dir_all(&kept);
        fs::rename(self.at("var"), &kept)?;
        fs::create_dir_all(self.at("var"))?;
        self.reset()?;
        fs::remove_dir_all(self.at("var"))?;
        Ok(fs::rename(kept, self.at("var"))?)
    }
}

#[test]
fn an_esp_without_room_is_told_before_anything_is_done() -> Result<()> {
    let world = World::new()?;
    let (esp, system) = (world.at("esp"), "EFI/Linux/trilith-6.12.0-0123.efi");
    let uki = fs::read(esp.join(system))?;
    let options = format!("size={}", uki.len() + (128 << 10));
    mount(Some("tmpfs"), &esp, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?;
    let looked = (|| -> Result<()> {
        world.put(&format!("esp/{system}"), &uki)?;
        let state = world.update(&[])?.wait("refused")?;
        let words = format!("{:?}", state.refused);
        ensure!(words.contains("bytes on the EFI system partition"), "{words}");
        let labels = world.labels()?;
        ensure!(labels[3..5] == ["_empty", "_empty"], "{labels:?}");
        world.boots(&["trilith-6.12.0-0123.efi"])
    })();
    umount2(&esp, MntFlags::MNT_DETACH)?;
    looked
}

/// What firmware shows of itself: four bytes of attributes, and the value.
fn variable(world: &World, name: &str, vendor: &str, value: &[u8]) -> Result<()> {
    world.put(&format!("efivars/{name}-{vendor}"), &[&[7, 0, 0, 0], value].concat())
}

/// A list of one certificate (UEFI 2.10, 32.4.1).
fn list(world: &World, certificate: &str) -> Result<Vec<u8>> {
    let pem = world.operator.at("keys").join(certificate);
    let der = world.at("certificate.der");
    let mut openssl =
        in_tools("openssl", &[world.operator.at("keys").as_path(), world.folder.path()])?;
    openssl.args(["x509", "-outform", "DER", "-in"]).arg(pem).arg("-out").arg(&der);
    run(&mut openssl)?;
    let der = fs::read(der)?;
    let guid: [u8; 16] = [
        0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0,
        0x72,
    ];
    let size = u32::try_from(der.len() + 16)?;
    let numbers = [28 + size, 0, size].map(u32::to_le_bytes).concat();
    Ok([&guid[..], &numbers, &[0; 16], &der].concat())
}

#[test]
fn a_system_is_staged_only_if_the_firmware_would_start_it() -> Result<()> {
    const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
    const IMAGES: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
    let mut world = World::new()?;
    fs::create_dir_all(world.at("efivars"))?;
    world.more.push((world.at("efivars"), "/sys/firmware/efi/efivars"));
    variable(&world, "SecureBoot", GLOBAL, &[1])?;
    let (own, other) = (list(&world, "db.pem")?, list(&world, "KEK.pem")?);
    for (db, dbx, words) in [
        (&other, None, "which is not in the firmware's db"),
        (&own, Some(&own), "which is in the firmware's dbx"),
    ] {
        variable(&world, "db", IMAGES, db)?;
        if let Some(dbx) = dbx {
            variable(&world, "dbx", IMAGES, dbx)?;
        }
        let state = world.update(&[])?.wait("not updated yet")?;
        let failed = state.failed.unwrap_or_default();
        ensure!(failed.contains(words), "{failed}");
        ensure!(!world.at("esp/trilith/staged/trilith_1.0-2.efi").exists(), "it is staged");
    }
    variable(&world, "dbx", IMAGES, &other)?;
    world.update(&[])?.wait(STAGED)?;
    world.is_staged()
}

/// What the gate says decides; a program that says yes stands in its place here, the last step is to take the machine down.
#[test]
fn nothing_is_activated_without_the_gates_word() -> Result<()> {
    let mut world = World::new()?;
    world.wish(world.web.url(), "activate: true\ntrial: 300\n")?;
    let state = world.update(&[])?.wait("not updated yet")?;
    let failed = state.failed.unwrap_or_default();
    ensure!(failed.contains("nobody would know whether it is as good as before"), "{failed}");
    world.is_staged()?;
    world.put("gate", b"#!/bin/sh\necho \"$@\" >/var/lib/trilith-update/asked\n")?;
    run(std::process::Command::new("chmod").arg("755").arg(world.at("gate")))?;
    world.more.push((world.at("gate"), "/usr/lib/trilith/trilith-gate"));
    let state = world.update(&[])?.wait("not updated yet")?;
    let failed = state.failed.unwrap_or_default();
    ensure!(failed.contains("reboot"), "{failed}");
    let asked = fs::read_to_string(world.at("var/asked"))?;
    ensure!(asked == "remember --version 1.0-2 --limit 300\n", "{asked}");
    world.boots(&["trilith-6.12.0-0123.efi", "trilith_1.0-2+3.efi"])
}
