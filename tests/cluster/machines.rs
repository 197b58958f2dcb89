//! Machines on every node: they run, move between nodes by TLS, outlive libvirt's daemon, and are seen when they end.
//!
//! The daemon's administrator is `virsh` on its own node.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_yaml::Value;
use trilith_core::status::{NodeStatus, State};
use trilith_tests::lab::{Container, Lab, Spec};

use trilith_tests::quorums::{PATIENCE, ceph, coordinators, start, subject};

use crate::disks::{Disk, disks_are_taken_by_name_and_outlive_power_cuts};
use crate::say;

/// For what takes a moment.
const SOON: Duration = Duration::from_secs(30);

/// The daemon's unit.
const DAEMON: &str = "libvirtd.service";

/// What a machine boots: the first sector of its disk. It says `alive 00001` and so on, about five times a second,
/// on its serial line, and counts in its memory: a machine that has moved counts on, one that was started anew begins
/// again. 16-bit code, loaded at 0x7c00:
///
/// ```text
///         xor ax,ax; mov ds,ax; mov ss,ax; mov sp,0x7c00; sti; cld
/// again:  mov si,text
/// print:  lodsb; test al,al; jz count; mov ah,al
///         mov dx,0x3fd
/// full:   in al,dx; test al,0x20; jz full
///         mov dx,0x3f8; mov al,ah; out dx,al; jmp print
/// count:  mov di,last
/// carry:  inc byte [di]; cmp byte [di],'9'+1; jne rest; mov byte [di],'0'; dec di; jmp carry
/// rest:   mov bx,[0x46c]
/// tick:   hlt; mov ax,[0x46c]; sub ax,bx; cmp ax,4; jb tick; jmp again
/// text:   db "alive 0000"
/// last:   db "0",10,0
/// ```
const SECTOR: [u8; 83] = *b"\x31\xc0\x8e\xd8\x8e\xd0\xbc\x00\x7c\xfb\xfc\xbe\x46\x7c\xac\x84\xc0\x74\x12\x88\xc4\xba\xfd\x03\
\xec\xa8\x20\x74\xfb\xba\xf8\x03\x88\xe0\xee\xeb\xe9\xbf\x50\x7c\xfe\x05\x80\x3d\x3a\x75\x06\xc6\x05\x30\x4f\xeb\xf3\
\x8b\x1e\x6c\x04\xf4\xa1\x6c\x04\x29\xd8\x83\xf8\x04\x72\xf5\xeb\xc5alive 00000\n\0";

/// Where the disk lies on each node, as on storage that all of them share.
const DISK: &str = "/var/lib/libvirt/images/alive.img";

/// The image in the pool that the agents make for machines.
const IMAGE: &str = "machines/alive";

#[test]
fn machines_run_everywhere_move_and_are_watched() -> Result<()> {
    let lab = Lab::tied(&Spec::sample()?)?;
    let used = Disk::used(&lab.node("n4")?)?;
    start(&lab, &lab.names())?;
    for node in lab.nodes() {
        answers(&node)?;
        let machine = Machine::of(&node);
        machine.start(&node)?;
        machine.counts_on(&node, 0)?;
        sees(&node, "1 running, 0 defined")?;
    }
    println!("{}", lab.node("n4")?.shell("trilithd status || true")?);
    machines_leave_what_is_reserved(&lab)?;
    the_storage_secret_is_kept_right(&lab)?;
    a_machine_moves_and_comes_back(&lab)?;
    a_machine_that_dies_is_seen_at_once(&lab)?;
    machines_outlive_the_daemon(&lab)?;
    a_daemon_that_hangs_does_not_hang_the_agent(&lab)?;
    a_machine_lives_in_ceph(&lab)?;
    disks_are_taken_by_name_and_outlive_power_cuts(&lab, &lab.node("n4")?, &used)
}

/// Waits until the agent has heard of libvirt what there is to hear, and its storage secret is as it should be.
fn answers(node: &Container<'_>) -> Result<()> {
    let status = node.wait_status("libvirt answers", PATIENCE, |status| {
        subject(status, "libvirt").is_ok_and(|libvirt| libvirt.state == State::Converged)
    })?;
    let more = &subject(&status, "libvirt")?.details.more;
    ensure!(more["libvirt"].starts_with("11.") && more["qemu"].starts_with("10."), "{more:?}");
    // A container of this lab has no device for it, whatever the host has.
    ensure!(more["kvm"].starts_with("does not work: there is no /dev/kvm: "), "{more:?}");
    Ok(())
}

fn machines(status: &NodeStatus) -> Option<&String> {
    subject(status, "libvirt").ok()?.details.more.get("machines")
}

/// Waits until the agent counts so many machines.
fn sees(node: &Container<'_>, count: &str) -> Result<()> {
    node.wait_status(&format!("it sees {count}"), SOON, |status| {
        machines(status).is_some_and(|machines| machines == count)
    })?;
    Ok(())
}

/// A machine that counts.
pub(crate) struct Machine {
    pub(crate) name: String,
}

impl Machine {
    fn of(node: &Container<'_>) -> Self {
        Self { name: format!("counter-{}", node.name()) }
    }

    /// What it says, on whichever node it runs.
    fn log(&self) -> String {
        format!("/var/log/libvirt/{}.log", self.name)
    }

    /// With a disk in a file, which is read-only: then libvirt moves it though nodes do not share the file.
    fn with_file() -> String {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{DISK}'/>
             <target dev='vda' bus='virtio'/><readonly/></disk>"
        )
    }

    /// With a disk in Ceph. Its monitors are in the node's ceph.conf, the key is libvirt's own secret.
    fn with_image(uuid: &str) -> String {
        format!(
            "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>
             <auth username='libvirt'><secret type='ceph' uuid='{uuid}'/></auth>
             <source protocol='rbd' name='{IMAGE}'/><target dev='vda' bus='virtio'/></disk>"
        )
    }

    pub(crate) fn description(&self, disk: &str) -> String {
        format!(
            "<domain type='qemu'><name>{}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
             <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
             <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
             {disk}<serial type='file'><source path='{}'/></serial>
             <controller type='usb' model='none'/><video><model type='none'/></video>
             <memballoon model='none'/></devices></domain>",
            self.name,
            self.log()
        )
    }

    /// Starts it with its disk in a file.
    fn start(&self, node: &Container<'_>) -> Result<()> {
        put(node, DISK, &disk())?;
        self.start_with(node, &Self::with_file())
    }

    /// Starts it as machines of a cluster are: known to the daemon for as long as they run.
    pub(crate) fn start_with(&self, node: &Container<'_>, disk: &str) -> Result<()> {
        let path = format!("/run/{}.xml", self.name);
        put(node, &path, self.description(disk).as_bytes())?;
        virsh(node, &format!("create {path}")).map(drop)
    }

    /// The last number that it said on this node; 0 if it was silent.
    fn count(&self, node: &Container<'_>) -> Result<u32> {
        let said = node.shell(&format!("cat {} 2>/dev/null || true", self.log()))?;
        let whole = said.lines().rev().filter_map(|line| line.strip_prefix("alive "));
        Ok(whole.filter(|number| number.len() == 5).find_map(|n| n.parse().ok()).unwrap_or(0))
    }

    /// Waits until it says a number after this one.
    pub(crate) fn counts_on(&self, node: &Container<'_>, after: u32) -> Result<u32> {
        node.until(&format!("{} counts on after {after}", self.name), SOON, || {
            let count = self.count(node)?;
            ensure!(count > after, "it has counted to {count}");
            Ok(count)
        })
    }

    pub(crate) fn runs_on(&self, node: &Container<'_>) -> Result<bool> {
        Ok(virsh(node, "list --name")?.lines().any(|name| name == self.name))
    }

    fn process(&self, node: &Container<'_>) -> Result<String> {
        Ok(node.shell(&format!("cat /run/libvirt/qemu/{}.pid", self.name))?.trim().to_owned())
    }
}

/// A disk of 1 MiB with the sector on it.
pub(crate) fn disk() -> Vec<u8> {
    let mut disk = SECTOR.to_vec();
    disk.resize(510, 0);
    disk.extend([0x55, 0xaa]);
    disk.resize(1 << 20, 0);
    disk
}

/// Writes a file on the node.
pub(crate) fn put(node: &Container<'_>, path: &str, content: &[u8]) -> Result<()> {
    std::fs::write(node.root()?.join(path.trim_start_matches('/')), content)
        .with_context(|| format!("{}: cannot write {path}", node.name()))
}

pub(crate) fn virsh(node: &Container<'_>, words: &str) -> Result<String> {
    node.shell(&format!("timeout 60 virsh -c qemu:///system {words}"))
}

/// The limits that systemd has for all machines together. That they hold is the kernel's: the containers have no such
/// controllers.
fn machines_leave_what_is_reserved(lab: &Lab) -> Result<()> {
    let node = lab.node("n4")?;
    let reserve = node.config()?.reserve;
    let number = |line: &str| -> Result<u64> { Ok(node.shell(line)?.trim().parse()?) };
    let memory = number("awk '/^MemTotal/ { printf \"%.0f\", $2 * 1024 }' /proc/meminfo")?;
    let least = number("cut -d, -f1 /sys/devices/system/cpu/online | cut -d- -f1")?;
    let first = least + u64::from(reserve.cpus);
    node.until("machines have their limits", SOON, || {
        let limit: u64 = node.property("machine.slice", "MemoryMax")?.parse()?;
        ensure!(limit == memory - reserve.memory.bytes(), "{limit} bytes of {memory}");
        let cpus = node.property("machine.slice", "AllowedCPUs")?;
        let lowest = cpus.split(['-', ' ']).next().unwrap_or_default();
        ensure!(lowest == first.to_string(), "CPUs {cpus}");
        Ok(())
    })
}

/// The key that the node's bundle has for machines, and the secret's UUID.
fn storage(lab: &Lab, node: &Container<'_>) -> Result<(String, String)> {
    let bundle = lab.cluster().bundle(node.config()?.id.into())?;
    let bundle: Value = serde_yaml::from_str(&bundle)?;
    let ceph = &bundle["secrets"]["ceph"];
    let key = ceph["keys"]["client.libvirt"].as_str().context("no key")?;
    let uuid = ceph["libvirt_uuid"].as_str().context("no UUID")?;
    Ok((key.to_owned(), uuid.to_owned()))
}

fn is_right(node: &Container<'_>, key: &str, uuid: &str) -> Result<()> {
    node.until("the storage secret is right", SOON, || {
        let value = virsh(node, &format!("secret-get-value {uuid} 2>&1"))?;
        ensure!(value.trim() == key, "it is another one");
        Ok(())
    })
}

fn the_storage_secret_is_kept_right(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        let (key, uuid) = storage(lab, &node)?;
        is_right(&node, &key, &uuid)?;
        let kept =
            node.shell("ls -A /etc/libvirt/secrets /var/lib/libvirt/secrets 2>/dev/null || true")?;
        ensure!(!kept.contains(&uuid), "{}: it lies on a disk: {kept}", node.name());
    }
    let node = lab.node("n4")?;
    let (key, uuid) = storage(lab, &node)?;
    let wrong = BASE64_STANDARD.encode("swordfish");
    put(&node, "/run/wrong", wrong.as_bytes())?;
    virsh(&node, &format!("secret-set-value {uuid} --file /run/wrong"))?;
    is_right(&node, &key, &uuid)?;
    virsh(&node, &format!("secret-undefine {uuid}"))?;
    is_right(&node, &key, &uuid)
}

/// Its disk is an image that it boots from by the storage secret, on a node and then on another one.
fn a_machine_lives_in_ceph(lab: &Lab) -> Result<()> {
    ceph::storage_serves(lab, &coordinators(lab)?, 3)?;
    let (here, there) = (lab.node("n1")?, lab.node("n4")?);
    put(&here, "/run/disk", &disk())?;
    here.shell(&format!("timeout 120 rbd import --no-progress /run/disk {IMAGE}"))?;
    let (_, uuid) = storage(lab, &here)?;
    let machine = Machine { name: "in-ceph".into() };
    machine.start_with(&here, &Machine::with_image(&uuid))?;
    let count = machine.counts_on(&here, 0)?;
    move_to(&machine, (&here, &there), "--tls")?;
    machine.counts_on(&there, count).map(drop)
}

/// Moves a machine as an administrator of the node that it runs on does.
fn move_to(
    machine: &Machine,
    (from, to): (&Container<'_>, &Container<'_>),
    tls: &str,
) -> Result<String> {
    let uri = format!("qemu+tls://{}/system?pkipath=/run/trilith/libvirt", to.name());
    virsh(from, &format!("migrate --live --p2p {tls} {} '{uri}' 2>&1", machine.name))
}

/// By TLS there and back while it counts on, and in no other way.
fn a_machine_moves_and_comes_back(lab: &Lab) -> Result<()> {
    let (here, there) = (lab.node("n1")?, lab.node("n2")?);
    let machine = Machine::of(&here);
    let Err(refused) = move_to(&machine, (&here, &there), "") else {
        bail!("it moves in plain text")
    };
    ensure!(
        format!("{refused:#}").contains("TLS"),
        "refused, and not for want of TLS: {refused:#}"
    );
    ensure!(machine.runs_on(&here)?, "a refused move has ended it");

    let capture = "/run/moved.pcap";
    there.shell(&format!(
        "systemd-run --quiet --unit=capture tcpdump -i any -U -w {capture} tcp portrange 49152-49215"
    ))?;
    there.until("the capture has begun", SOON, || there.shell(&format!("test -s {capture}")))?;
    let count = machine.counts_on(&here, 0)?;
    let begin = Instant::now();
    move_to(&machine, (&here, &there), "--tls")?;
    say("a machine has moved", begin);
    ensure!(!machine.runs_on(&here)? && machine.runs_on(&there)?, "it is where it was");
    sees(&here, "0 running, 0 defined")?;
    sees(&there, "2 running, 0 defined")?;
    let first = machine.counts_on(&there, count)?;
    ensure!(first < count + 200, "it went from {count} to {first}");
    there.shell("systemctl stop capture.service")?;
    // The memory that moved has the words of the program in it, as its code has.
    let plain = there.shell(&format!("grep --text --count 'alive 0' {capture} || true"))?;
    let size = there.shell(&format!("stat --format=%s {capture}"))?;
    ensure!(plain.trim() == "0", "its memory went over the network in plain text");
    ensure!(size.trim().parse::<u64>()? > 100_000, "only {size} bytes were captured");

    move_to(&machine, (&there, &here), "--tls")?;
    machine.counts_on(&here, first)?;
    sees(&there, "1 running, 0 defined")
}

/// Several times, of which the fastest counts: the others tell how busy this host is with the cluster that forms.
fn a_machine_that_dies_is_seen_at_once(lab: &Lab) -> Result<()> {
    let node = lab.node("n3")?;
    let machine = Machine::of(&node);
    let mut took = Vec::new();
    for _ in 0..3 {
        let process = machine.process(&node)?;
        let begin = Instant::now();
        node.shell(&format!("kill -9 {process}"))?;
        sees(&node, "0 running, 0 defined")?;
        took.push(begin.elapsed());
        machine.start(&node)?;
        sees(&node, "1 running, 0 defined")?;
    }
    println!("a killed machine is seen in the status: {took:?}");
    ensure!(took.iter().any(|took| *took < Duration::from_secs(1)), "seen after {took:?}");
    Ok(())
}

fn machines_outlive_the_daemon(lab: &Lab) -> Result<()> {
    let node = lab.node("n4")?;
    let machine = Machine::of(&node);
    let (process, count) = (machine.process(&node)?, machine.count(&node)?);
    let old = node.main_pid(DAEMON)?;
    let begin = Instant::now();
    node.shell(&format!("kill -9 {old}"))?;
    node.until("another daemon runs", SOON, || {
        ensure!(node.main_pid(DAEMON)? != old);
        Ok(())
    })?;
    let (key, uuid) = storage(lab, &node)?;
    is_right(&node, &key, &uuid)?;
    answers(&node)?;
    say("libvirtd killed, back with its secret", begin);
    sees(&node, "1 running, 0 defined")?;
    ensure!(machine.process(&node)? == process, "it is another process");
    machine.counts_on(&node, count)?;
    // Its events are followed again.
    virsh(&node, &format!("destroy {}", machine.name))?;
    sees(&node, "0 running, 0 defined")?;
    machine.start(&node)?;
    sees(&node, "1 running, 0 defined")
}

/// A daemon that does not answer is said to be away; everything else of the agent goes on.
fn a_daemon_that_hangs_does_not_hang_the_agent(lab: &Lab) -> Result<()> {
    let node = lab.node("n2")?;
    let process = node.main_pid(DAEMON)?;
    node.shell(&format!("kill -STOP {process}"))?;
    let begin = Instant::now();
    node.wait_status("it says that libvirtd does not answer", PATIENCE, |status| {
        subject(status, "libvirt").is_ok_and(|libvirt| {
            libvirt.state.to_string().contains("libvirtd: it has not answered for")
        })
    })?;
    say("a daemon that hangs is said to be away", begin);
    let asked = Instant::now();
    node.status()?;
    ensure!(asked.elapsed() < Duration::from_secs(1), "the agent took {:?}", asked.elapsed());
    node.shell(&format!("kill -CONT {process}"))?;
    answers(&node)
}
