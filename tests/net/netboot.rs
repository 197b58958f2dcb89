//! `trilith netboot` with a real dnsmasq, and a machine in another namespace that is started by it: `trilith-netboot` gets
//! an address and the server's URL by DHCP, fetches the release, checks it, and gets its bundle once a person said yes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use trilith_core::bundle::Bundle;
use trilith_tests::artifact::{self, program};
use trilith_tests::cluster::Cluster;
use trilith_tests::command::sh;
use trilith_tests::network::{Neighbour, Network};
use trilith_tests::program::{PATIENCE, Program};
use trilith_tests::release;

/// A server's side and a machine's side, joined by a cable.
struct Bench {
    network: Network,
    machine: Neighbour,
    cluster: Cluster,
    folder: TempDir,
    disk: Vec<u8>,
}

impl Bench {
    fn new() -> Result<Self> {
        let network = Network::isolate()?;
        let machine = Neighbour::new()?;
        sh("ip link add server type veth peer name nic address 52:54:00:00:01:00")?;
        sh("ip address add 10.9.0.1/24 dev server")?;
        sh("ip link set server up")?;
        machine.take("nic")?;
        let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
        let folder = TempDir::new()?;
        let image = folder.path().join("image");
        fs::create_dir(&image)?;
        let disk = release::small(&image)?;
        fs::write(folder.path().join("cmdline"), format!("ro roothash={}\n", release::ROOT_HASH))?;
        fs::write(folder.path().join("snponly.efi"), "a first stage")?;
        Ok(Self { network, machine, cluster, folder, disk })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn serve(&self, arguments: &[&str]) -> Result<Program> {
        let mut command = Command::new(program("trilith")?);
        command.arg("netboot").arg(self.cluster.file()).args(["--interface", "server"]);
        command.arg("--identity").arg(self.cluster.identity());
        command.arg("--image").arg(self.at("image")).arg("--ipxe").arg(self.at("snponly.efi"));
        Program::start(command.args(arguments))
    }

    /// The machine is switched on. It sees its own NICs, which /sys shows to who mounts it.
    fn start(&self, name: &str) -> Result<Program> {
        let script = format!(
            "mount -t sysfs sysfs /sys && exec {} --command-line {} --folder {} --firmware {} --only-file {}",
            program("trilith-netboot")?.display(),
            self.at("cmdline").display(),
            self.at(name).display(),
            self.at("firmware").display(),
            self.at(&format!("{name}.raw")).display(),
        );
        let mut command = self.machine.command();
        Program::start(command.args(["unshare", "--mount", "sh", "-c", &script]))
    }
}

#[test]
fn a_machine_gets_address_image_and_bundle_and_nobody_else_gets_it() -> Result<()> {
    let bench = Bench::new()?;
    let mut server = bench.serve(&["--dhcp", "10.9.0.100-10.9.0.120"])?;
    server.until("trilith_1.0-1 at http://10.9.0.1:29812/")?;

    let machine = bench.start("first")?;
    let key = machine.until("the key of this machine: ")?;
    let print = key.rsplit(' ').next().context("no fingerprint")?;
    let entry = server.until("waits: y 1 or n 1")?;
    ensure!(entry.contains(print) && entry.contains("node 1 (hv1)"), "{entry} {print}");
    machine.until("waiting for the operator's yes")?;
    server.say("y 1")?;
    server.until("node 1 has reported in")?;
    ensure!(machine.ended_well()?, "the machine gave up");

    ensure!(fs::read(bench.at("first.raw"))? == bench.disk, "the disk is another one");
    let bundle = Bundle::parse(&fs::read_to_string(bench.at("first/network/1.yaml"))?)?;
    ensure!(u16::from(bundle.node) == 1);
    let link = bench.machine.sh("ip -brief address show nic")?;
    ensure!(link.contains("DOWN") && !link.contains("10.9.0."), "left behind: {link}");

    // Whoever comes with another key and the same hardware gets nothing any more, also from a server started again.
    let second = bench.start("second")?;
    second.until("gives no bundle: node 1 (hv1) has reported in")?;
    drop(server);
    nobody_answers_dhcp()?;
    second.until("Connection refused")?;
    let server = bench.serve(&["--dhcp", "10.9.0.100-10.9.0.120", "--approve", "auto"])?;
    // The machine says an answer once: it may have slept while the server was away.
    server.until("gets nothing, the node has reported in")?;
    drop(server);
    // Unless the operator says so.
    let server =
        bench.serve(&["--dhcp", "10.9.0.100-10.9.0.120", "--approve", "auto", "--again"])?;
    server.until("node 1 has reported in")?;
    ensure!(second.ended_well()?, "the second start gave up");
    Ok(())
}

/// The NIC by which a machine is known may come after the one by which it asks.
#[test]
fn a_machine_is_known_by_a_nic_that_is_late() -> Result<()> {
    let bench = Bench::new()?;
    bench.machine.sh("ip link set nic address 52:54:00:00:99:00")?;
    let mut server = bench.serve(&["--dhcp", "10.9.0.100-10.9.0.120"])?;
    let machine = bench.start("machine")?;
    machine.until("gives no bundle: no node's `match` in the cluster file fits this machine")?;
    sh("ip link add late address 52:54:00:00:01:00 type veth peer name nobody")?;
    bench.machine.take("late")?;
    server.until("waits: y 1 or n 1")?;
    server.say("y 1")?;
    machine.until("this machine is node 1 (hv1) of home")?;
    server.until("node 1 has reported in")?;
    ensure!(machine.ended_well()?, "the machine gave up");
    Ok(())
}

#[test]
fn a_changed_byte_is_refused() -> Result<()> {
    let bench = Bench::new()?;
    let path = bench.at("image").join(format!("{}.raw.zst", release::NAME));
    let mut disk = bench.disk.clone();
    // In the root, which begins after a MiB for the table and one for the ESP.
    disk[(2 << 20) + 100 * 4096] ^= 1;
    fs::write(&path, zstd::encode_all(disk.as_slice(), 3)?)?;
    let _server = bench.serve(&["--dhcp", "10.9.0.100-10.9.0.120", "--approve", "auto"])?;
    let machine = bench.start("machine")?;
    machine.until("REFUSED what http://10.9.0.1:29812/ gave: its root is not the one")?;
    machine.until("no server gives the root that this UKI stands for")?;
    ensure!(!machine.ended_well()?, "it went on");
    Ok(())
}

/// Beside a DHCP server that knows nothing of netboot: it gives the address, the proxy the rest.
#[test]
fn a_proxy_works_beside_another_dhcp_server() -> Result<()> {
    let bench = Bench::new()?;
    // The server's end of the cable goes into a switch, where the other DHCP server is as well.
    sh("ip address del 10.9.0.1/24 dev server")?;
    sh("ip link set server name cable0")?;
    let switch = bench.network.switch("lan")?;
    sh(&format!("ip link set cable0 master {} up", switch.name()))?;
    for (name, peer) in [("server", "cable1"), ("dhcp", "cable2")] {
        sh(&format!("ip link add {name} type veth peer name {peer}"))?;
        sh(&format!("ip link set {peer} master {} up", switch.name()))?;
    }
    sh("ip address add 10.9.0.1/24 dev server")?;
    sh("ip link set server up")?;
    let other = Neighbour::new()?;
    other.take("dhcp")?;
    other.sh("ip address add 10.9.0.2/24 dev dhcp")?;
    other.sh("ip link set dhcp up")?;
    let leases = bench.at("leases");
    let mut dhcp = other.command();
    dhcp.args(["dnsmasq", "--conf-file=/dev/null", "--port=0", "--no-daemon", "--log-dhcp"]);
    dhcp.args(["--interface=dhcp", "--bind-dynamic", "--user=root", "--pid-file="]);
    dhcp.arg(format!("--dhcp-leasefile={}", leases.display()));
    let _dhcp = Program::start(dhcp.arg("--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0"))?;
    let server = bench.serve(&["--approve", "auto"])?;
    let machine = bench.start("machine")?;
    machine.until("has 10.9.0.5")?;
    server.until("node 1 has reported in")?;
    ensure!(machine.ended_well()?, "the machine gave up");
    ensure!(fs::read(bench.at("machine.raw"))? == bench.disk, "the disk is another one");
    Ok(())
}

/// What firmware and iPXE ask for.
#[test]
fn files_come_whole_and_in_ranges() -> Result<()> {
    let bench = Bench::new()?;
    let server = bench.serve(&["--dhcp", "10.9.0.100-10.9.0.120"])?;
    server.until("trilith_1.0-1 at")?;

    let uki = fs::read(bench.at("image").join(format!("{}.efi", release::NAME)))?;
    let (head, body) = fetch("uki.efi", None)?;
    ensure!(head.starts_with("HTTP/1.1 200") && body == uki, "{head}");
    let length = format!("content-length: {}", uki.len());
    ensure!(head.to_lowercase().contains(&length), "{head}");
    let (head, body) = fetch("uki.efi", Some("bytes=100-199"))?;
    ensure!(head.starts_with("HTTP/1.1 206") && body == uki[100..200], "{head}");
    server.until("goes on with uki.efi at byte 100")?;
    let (_, script) = fetch("boot.ipxe", None)?;
    let script = String::from_utf8(script)?;
    let chain = format!(
        "chain http://10.9.0.1:29812/uki.efi root=/dev/mapper/root ro roothash={} panic=10 \
         trilith.netboot=http://10.9.0.1:29812/ ||",
        release::ROOT_HASH
    );
    ensure!(script.starts_with("#!ipxe\n") && script.contains(&chain), "{script}");
    let (head, _) = fetch("../cluster.yaml", None)?;
    ensure!(head.starts_with("HTTP/1.1 404"), "{head}");

    ensure!(server.terminate()?, "SIGTERM is no failure");
    nobody_answers_dhcp()
}

/// A server that has ended, also by SIGKILL, leaves no dnsmasq behind, which would answer beside the next one.
fn nobody_answers_dhcp() -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    // Port 67 in hex; this thread's network.
    while fs::read_to_string("/proc/thread-self/net/udp")?.contains(":0043 ") {
        ensure!(Instant::now() < deadline, "dnsmasq lives on");
        std::thread::yield_now();
    }
    Ok(())
}

fn fetch(path: &str, range: Option<&str>) -> Result<(String, Vec<u8>)> {
    let mut stream = std::net::TcpStream::connect("10.9.0.1:29812")?;
    let range = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: server\r\nConnection: close\r\n{range}\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no head")?;
    let body = answer.split_off(end + 4);
    Ok((String::from_utf8(answer)?, body))
}
