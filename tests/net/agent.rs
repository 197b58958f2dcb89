//! `trilithd` from start to stop: it waits for a bundle, converges, keeps a good bundle when a bad one comes, repairs,
//! stops without taking the network down, and starts again without changing anything.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use trilith_tests::artifact::{program, repository};
use trilith_tests::cluster::Cluster;
use trilith_tests::command::{output, sh};
use trilith_tests::network::Network;

/// The longest that anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running agent. It sees an empty /run but for its own folder, and an /etc of its own with nothing but the host's
/// users: the host's bus, units and configuration are none of its business.
pub(crate) struct Agent {
    child: Child,
    lines: Receiver<String>,
}

impl Agent {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let agent = program("trilithd")?;
        let script = format!(
            "mount -t tmpfs run /run && mkdir -m 711 /run/trilith && cp /etc/passwd /etc/group /run \
             && mount -t tmpfs etc /etc && mv /run/passwd /run/group /etc \
             && exec {} run --bundle {} --socket {} --state {}",
            agent.display(),
            folder.join("bundle.yaml").display(),
            folder.join("agent.sock").display(),
            folder.join("state").display(),
        );
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the agent")?;
        let stderr = child.stderr.take().context("the agent has no stderr")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| {
                eprintln!("{line}");
                sender.send(line)
            })
        });
        Ok(Self { child, lines })
    }

    /// Waits for a line of the log, and gives those before it.
    pub(crate) fn until(&self, text: &str) -> Result<Vec<String>> {
        let mut before = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.with_context(|| format!("the agent never said: {text}"))?;
            if line.contains(text) {
                return Ok(before);
            }
            before.push(line);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }

    /// Puts a file into a folder of the agent's own view of the machine, whole.
    pub(crate) fn place(&self, folder: &str, name: &str, text: &str) -> Result<()> {
        let script =
            format!("mkdir -p {folder} && cat > {folder}/new && mv {folder}/new {folder}/{name}");
        let mut shell = Command::new("nsenter")
            .args(["--mount", "--target", &self.child.id().to_string(), "sh", "-c", &script])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot enter the agent's view")?;
        shell.stdin.take().context("no stdin")?.write_all(text.as_bytes())?;
        let status = shell.wait()?;
        ensure!(status.success(), "{script}: {status}");
        Ok(())
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // After `stop` there is nobody left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One node of the homelab sample, its NIC one end of a cable.
pub(crate) struct Node {
    folder: TempDir,
    cluster: Cluster,
    bundle: String,
}

impl Node {
    pub(crate) fn new() -> Result<Self> {
        sh("ip link add nic0 address 52:54:00:00:01:00 type veth peer name wire0")?;
        sh("ip link set wire0 up")?;
        let cluster = homelab()?;
        let bundle = cluster.bundle(1)?;
        Ok(Self { folder: tempfile::tempdir()?, cluster, bundle })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// Puts the node's own bundle in place.
    pub(crate) fn give_own(&self) -> Result<()> {
        self.give(&self.bundle)
    }

    fn bundle(&self) -> PathBuf {
        self.folder.path().join("bundle.yaml")
    }

    /// Puts a bundle in place, whole.
    fn give(&self, text: &str) -> Result<()> {
        let beside = self.folder.path().join("new");
        fs::write(&beside, text)?;
        Ok(fs::rename(beside, self.bundle())?)
    }

    pub(crate) fn status(&self, wait: &[&str]) -> Result<Value> {
        let mut status = Command::new(program("trilithd")?);
        status.args(["status", "--json", "--socket"]).arg(self.socket());
        let answer = output(status.args(wait))?;
        ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        Ok(serde_json::from_slice(&answer.stdout)?)
    }
}

/// The sample with secrets of its own: each call makes another cluster.
fn homelab() -> Result<Cluster> {
    Cluster::sample(&repository().join("tests/clusters/valid/homelab.yaml"))
}

fn has_address() -> Result<bool> {
    Ok(sh("ip -brief address show dev nic0")?.contains("10.10.0.1/24"))
}

#[test]
fn an_agent_lives() -> Result<()> {
    let _network = Network::isolate()?;
    let node = Node::new()?;
    let agent = Agent::start(node.folder.path())?;

    agent.until("This node has no node bundle")?;
    agent.until("52:54:00:00:01:00")?;
    assert_eq!(node.status(&[])?["bundle"]["source"], Value::Null);
    assert!(!has_address()?, "without a bundle it does nothing");

    node.give(&node.bundle)?;
    agent.until("network: plan: ")?;
    agent.until("network: converged")?;
    let status = node.status(&[])?;
    assert_eq!(status["node"]["name"], "hv1");
    assert_eq!(status["subjects"]["network"]["state"], "converged");
    // There is no bus in this /run, nor are there a node's users and checkers: no failure of anything else.
    assert_ne!(status["subjects"]["services"]["state"], "converged");
    assert!(has_address()?);

    node.give(&node.bundle.replace("10.10.0.254", "10.10.0.253"))?;
    agent.until("the bundle was changed after")?;
    node.give(&node.cluster.sign(&node.bundle.replace("subnet", "subent"))?)?;
    agent.until("unknown key `subent`")?;
    let status = node.status(&[])?;
    assert_ne!(status["bundle"]["problems"], Value::Array(Vec::new()));
    assert_eq!(status["subjects"]["network"]["state"], "converged", "the last good bundle goes on");

    node.give(&node.bundle)?;
    agent.until("node bundle read")?;
    agent.signal(Signal::SIGHUP)?;
    agent.until("node bundle read")?;
    assert_eq!(node.status(&[])?["bundle"]["problems"], Value::Array(Vec::new()));

    let before = Instant::now();
    sh("ip address flush dev nic0 scope global")?;
    agent.until("network: converged")?;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    assert!(has_address()?);

    agent.stop()?;
    assert!(has_address()?, "the network stays");
    let agent = Agent::start(node.folder.path())?;
    let said = agent.until("network: converged")?;
    assert!(!said.iter().any(|line| line.contains("network: plan: ")), "nothing to do: {said:#?}");
    agent.stop()
}

/// A machine stays what it is: the bundle of another cluster or node is refused with a reason, whether it comes while
/// the agent runs or before it starts, and changes nothing.
#[test]
fn a_bundle_of_others_is_refused() -> Result<()> {
    let _network = Network::isolate()?;
    let node = Node::new()?;
    node.give(&node.bundle)?;
    let agent = Agent::start(node.folder.path())?;
    agent.until("network: converged")?;
    let belonging = node.folder.path().join("state/belonging.yaml");
    let before = fs::read(&belonging)?;

    node.give(&node.cluster.bundle(2)?)?;
    agent.until("this machine is node 1 (hv1) of the cluster home")?;
    node.give(&homelab()?.bundle(1)?)?;
    agent.until("to give the machine away, erase its disks")?;
    let status = node.status(&[])?;
    assert_eq!(status["node"]["name"], "hv1", "the last good bundle goes on");
    assert_eq!(status["subjects"]["network"]["state"], "converged");
    let reason = status["bundle"]["problems"][0]["reason"].as_str().context("no reason")?;
    assert!(reason.contains("the bundle is for node 1 (hv1)"), "{reason}");
    agent.stop()?;

    sh("ip address flush dev nic0 scope global")?;
    let agent = Agent::start(node.folder.path())?;
    agent.until("to give the machine away, erase its disks")?;
    let status = node.status(&[])?;
    assert_eq!(status["node"], Value::Null);
    assert_eq!(status["subjects"]["network"]["state"], "waiting");
    assert!(!has_address()?, "nothing is started");
    assert_eq!(fs::read(&belonging)?, before, "nothing is overwritten");

    let missing = node.bundle.lines().filter(|line| !line.starts_with("  bgp: "));
    node.give(&missing.collect::<Vec<_>>().join("\n"))?;
    agent.until("missing field `bgp`")?;
    assert!(!has_address()?);
    node.give(&node.bundle)?;
    agent.until("network: converged")?;
    agent.stop()
}
