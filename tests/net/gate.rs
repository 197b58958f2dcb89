//! `trilith-gate` beside the real agent of a one-node cluster: what it remembers, what it says while the node comes up, and
//! what it does with a boot that proves itself, and with one that does not. A folder stands for the ESP, and a script for the
//! reboot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;
use trilith_tests::artifact::program;
use trilith_tests::command::run;
use trilith_tests::network::Network;
use trilith_tests::program::{PATIENCE, Program};

use crate::agent::{Agent, Node};

const OLD: &str = "EFI/Linux/trilith_1.0.efi";
const TRIED: &str = "EFI/Linux/trilith_2.0+2-1.efi";

/// The gate of a machine whose parts are folders.
struct Gate {
    folder: PathBuf,
}

impl Gate {
    /// Release 2.0 is in its first try beside 1.0.
    fn new(node: &Node) -> Result<Self> {
        let gate = Self { folder: node.folder().join("gate") };
        fs::create_dir_all(gate.esp().join("EFI/Linux"))?;
        fs::create_dir_all(gate.folder.join("run"))?;
        for system in [OLD, TRIED] {
            fs::write(gate.esp().join(system), system)?;
        }
        let script = format!("#!/bin/sh\necho rebooted >> {}/reboots\n", gate.folder.display());
        fs::write(gate.folder.join("reboot"), script)?;
        fs::set_permissions(gate.folder.join("reboot"), fs::Permissions::from_mode(0o755))?;
        Ok(gate)
    }

    fn esp(&self) -> PathBuf {
        self.folder.join("esp")
    }

    fn systems(&self) -> Result<Vec<String>> {
        let all = fs::read_dir(self.esp().join("EFI/Linux"))?;
        let mut names = all
            .map(|it| Ok(it?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn command(&self, socket: &Path) -> Result<Command> {
        let mut command = Command::new(program("trilith-gate")?);
        command.arg("--socket").arg(socket);
        command.arg("--state").arg(self.folder.join("state"));
        command.arg("--run").arg(self.folder.join("run"));
        Ok(command)
    }

    fn remember(&self, node: &Node, limit: Duration) -> Result<String> {
        // A machine's time begins with its start, and this one was started long ago.
        let limit = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?) + limit;
        let limit = limit.as_secs().to_string();
        run(self.command(&node.socket())?.args(["remember", "--version", "2.0", "--limit", &limit]))
    }

    /// Runs it as in the boot of a release, on trial or not.
    fn run(&self, node: &Node, running: &str, counted: Option<&str>) -> Result<Program> {
        let mut command = self.command(&node.socket())?;
        command.arg("run").arg("--esp").arg(self.esp()).args(["--running", running]);
        command.arg("--reboot").arg(self.folder.join("reboot"));
        if let Some(counted) = counted {
            command.args(["--counted", counted]);
        }
        Program::start(&mut command)
    }

    /// Everything of the boot has started.
    fn booted(&self) -> Result<()> {
        Ok(fs::write(self.folder.join("run/booted"), "")?)
    }

    fn kept(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join("state").join(name)).unwrap_or_default()
    }

    fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("run/state.yaml"))?)
    }
}

fn converged(node: &Node) -> Result<Agent> {
    node.give_own()?;
    let agent = Agent::start(node.folder())?;
    agent.until("network: converged")?;
    Ok(agent)
}

/// The status, once it has what the gate says.
fn passed_on(node: &Node) -> Result<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = node.status(&[])?;
        if status["trial"] != Value::Null {
            return Ok(status);
        }
        ensure!(Instant::now() < end, "the agent does not pass it on: {status:#}");
        sleep(Duration::from_millis(100));
    }
}

const LONG: Duration = Duration::from_mins(10);

/// What the node was, it is again: the system gets the name of one that is proven. Before that nothing is, neither while the
/// agent is away nor while units start; and the agent passes on what the gate says.
#[test]
fn a_boot_is_proven_once_the_node_is_what_it_was() -> Result<()> {
    let _network = Network::isolate()?;
    let node = Node::new()?;
    let gate = Gate::new(&node)?;
    let refused = gate.remember(&node, LONG).unwrap_err().to_string();
    ensure!(refused.contains("the agent does not answer"), "{refused}");
    ensure!(
        gate.kept("before.yaml").is_empty(),
        "nothing is written down of a node that says nothing"
    );

    let agent = converged(&node)?;
    gate.remember(&node, LONG)?;
    let before = gate.kept("before.yaml");
    ensure!(before.contains("node: hv1") && before.contains("network: []"), "{before}");
    agent.stop()?;

    let trial = gate.run(&node, "2.0", Some(TRIED))?;
    trial.until("trial: 2.0, try 1: not proven yet")?;
    trial.until("boot: units of this boot have not started yet")?;
    trial.until("agent: it does not answer: nobody is on ")?;
    ensure!(gate.said()?.contains("stand: trial"), "{}", gate.said()?);
    ensure!(
        gate.kept("why.yaml").contains("agent: it does not answer"),
        "{}",
        gate.kept("why.yaml")
    );
    ensure!(gate.systems()? == ["trilith_1.0.efi", "trilith_2.0+2-1.efi"]);

    gate.booted()?;
    let agent = converged(&node)?;
    trial.until("trial: 2.0 has proven itself in this boot")?;
    ensure!(trial.ended_well()?);
    ensure!(gate.systems()? == ["trilith_1.0.efi", "trilith_2.0.efi"], "{:?}", gate.systems()?);
    ensure!(fs::read_to_string(gate.esp().join("EFI/Linux/trilith_2.0.efi"))? == TRIED);
    ensure!(gate.kept("before.yaml").is_empty() && gate.kept("why.yaml").is_empty());
    ensure!(!gate.folder.join("reboots").exists());
    agent.stop()
}

/// An agent that hangs is none, and neither is one that has died; when the time is over the machine reboots. The release that
/// runs after the last try says which one has failed, and why, and the agent passes that on.
#[test]
fn a_boot_that_does_not_prove_itself_ends_and_is_remembered() -> Result<()> {
    let _network = Network::isolate()?;
    let node = Node::new()?;
    let gate = Gate::new(&node)?;
    gate.booted()?;
    let agent = converged(&node)?;
    gate.remember(&node, Duration::from_secs(40))?;

    agent.signal(Signal::SIGSTOP)?;
    let trial = gate.run(&node, "2.0", Some(TRIED))?;
    trial.until("agent: it does not answer: no answer within 10 s")?;
    drop(agent);
    trial.until("agent: it does not answer: nobody is on ")?;
    trial.until("the time of this boot is over, and it reboots: agent: it does not answer")?;
    ensure!(!trial.ended_well()?, "its unit must see a failure");
    ensure!(fs::read_to_string(gate.folder.join("reboots"))? == "rebooted\n");
    ensure!(gate.systems()? == ["trilith_1.0.efi", "trilith_2.0+2-1.efi"], "nothing is proven");

    // Somebody has chosen the old system: the new one comes again.
    let old = gate.run(&node, "1.0", None)?;
    ensure!(old.ended_well()? && gate.kept("failed.yaml").is_empty());

    // What the boot loader makes of two more tries.
    fs::rename(gate.esp().join(TRIED), gate.esp().join("EFI/Linux/trilith_2.0+0-3.efi"))?;
    let old = gate.run(&node, "1.0", None)?;
    old.until("2.0 has failed on this node: it did not prove itself in time: agent: ")?;
    ensure!(old.ended_well()?);
    let failed = gate.kept("failed.yaml");
    ensure!(failed.contains("version: '2.0'") && failed.contains("nobody is on"), "{failed}");
    ensure!(gate.kept("before.yaml").is_empty() && gate.kept("why.yaml").is_empty());

    let agent = Agent::start(node.folder())?;
    agent.until("network: converged")?;
    agent.place("/run/trilith-gate", "state.yaml", &gate.said()?)?;
    let status = passed_on(&node)?;
    let failed = &status["trial"]["failed"][0];
    ensure!(failed["version"] == "2.0", "{status:#}");
    let mut people = Command::new(program("trilithd")?);
    let people = people.args(["status", "--socket"]).arg(node.socket()).stderr(Stdio::inherit());
    let text = run(people).context("no status for people")?;
    ensure!(text.contains("2.0 has failed on this node ("), "{text}");
    agent.stop()
}
