//! One node of a lab: commands in it, its agent's status, its journal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use trilith_core::config::Node;
use trilith_core::status::NodeStatus;

use super::plan::NodePlan;
use super::{Lab, VAR, power};
use crate::cluster::pings;
use crate::command::{output, run, tail};

/// How often to look again where the kernel tells nobody, such as a process that begins.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The agent answers.
    Answers,
    /// No subject has a step left.
    Settled,
    /// Every subject has converged.
    Converged,
}

/// A node of a lab, on or off.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    lab: &'a Lab,
    plan: &'a NodePlan,
}

impl<'a> Container<'a> {
    pub(super) fn new(lab: &'a Lab, plan: &'a NodePlan) -> Self {
        Self { lab, plan }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.plan.name
    }

    /// What the cluster file says about it.
    pub fn config(&self) -> Result<&'a Node> {
        self.lab.cluster.node(self.plan.id)
    }

    /// Its /var, as the host sees it.
    pub fn var(&self) -> PathBuf {
        self.lab.node_folder(self.plan).join(VAR)
    }

    /// Its disks for OSDs, as devices of the host.
    pub fn disks(&self) -> impl Iterator<Item = &'a Path> {
        self.plan.disks.iter().filter_map(|disk| disk.device.as_deref())
    }

    /// Its whole tree of files while it is on, as the host sees it.
    pub fn root(&self) -> Result<PathBuf> {
        let leader = self.leader().with_context(|| format!("{} is off", self.name()))?;
        Ok(format!("/proc/{leader}/root").into())
    }

    /// Whether any process of it runs.
    pub fn is_on(&self) -> bool {
        power::is_populated(&self.lab.keeper.group(self.name()))
    }

    /// The node's process 1, by its number on the host; nothing while there is none.
    pub fn leader(&self) -> Option<u32> {
        let group = self.lab.keeper.group(self.name());
        let lists =
            ["payload/init.scope", "payload"].map(|below| group.join(below).join("cgroup.procs"));
        let processes =
            lists.iter().filter_map(|list| fs::read_to_string(list).ok()).collect::<String>();
        let mut numbers = processes.lines().filter_map(|line| line.parse().ok());
        numbers.find(|number| is_first(*number))
    }

    /// A command on the node as root, in all of its namespaces.
    pub fn command(&self, program: &str) -> Result<Command> {
        let leader = self.leader();
        let leader = leader.with_context(|| {
            format!("{0} is off: `ci/lab start {0}` switches it on", self.name())
        })?;
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &leader.to_string()])
            .args([
                "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--time", "--root",
                "--wd",
            ])
            .args(["--", "/usr/bin/env", "--ignore-environment", "HOME=/root", "LANG=C.UTF-8"])
            .arg(format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "dumb".into())))
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg(program);
        Ok(command)
    }

    /// Runs a line of shell on the node and returns its output.
    pub fn shell(&self, line: &str) -> Result<String> {
        run(self.command("/bin/sh")?.args(["-c", line]))
            .with_context(|| format!("on {}", self.name()))
    }

    /// What its agent says now.
    pub fn status(&self) -> Result<NodeStatus> {
        self.ask(&[])
    }

    fn ask(&self, arguments: &[&str]) -> Result<NodeStatus> {
        let answer = output(self.command("trilithd")?.args(["status", "--json"]).args(arguments))?;
        // The exit code tells whether the node has converged; the text is wanted in any case.
        serde_json::from_slice(&answer.stdout).with_context(|| {
            format!(
                "{}: no status: {}",
                self.name(),
                String::from_utf8_lossy(&answer.stderr).trim_end()
            )
        })
    }

    /// Waits until the agent is as wanted. The error tells what the agent said last, and the end of its journal.
    pub fn wait(&self, what: Wait, patience: Duration) -> Result<NodeStatus> {
        let deadline = Instant::now() + patience;
        let mut status = self.until("its agent answers", patience, || self.status())?;
        while !what.holds(&status) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} has not {what:?}: {}\n{}", self.name(), text(&status), self.last_words());
            }
            let seconds = left.as_secs().max(1).to_string();
            status = self.ask(&["--wait", what.word(), "--timeout", &seconds])?;
        }
        Ok(status)
    }

    /// Waits until the status is as `accept` wants it.
    pub fn wait_status(
        &self,
        what: &str,
        patience: Duration,
        accept: impl Fn(&NodeStatus) -> bool,
    ) -> Result<NodeStatus> {
        self.until(what, patience, || {
            let status = self.status()?;
            ensure!(accept(&status), "{}", text(&status));
            Ok(status)
        })
    }

    /// Tries until `attempt` gives a value.
    pub fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            let error = match attempt() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                bail!("{}: waiting until {what}: {error:#}\n{}", self.name(), self.last_words());
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// The last lines of its journal, or of its console if it has none.
    pub fn last_words(&self) -> String {
        let journal =
            self.shell("journalctl --boot --lines 30 --no-pager --output short-monotonic");
        let console = || tail(&self.lab.console(self.name()).unwrap_or_default(), 30);
        journal.unwrap_or_else(|_| console())
    }

    /// Pings every address of another node with the largest packets that its network allows, unbroken.
    pub fn ping_all(&self, other: &Self) -> Result<()> {
        let targets = pings(&other.config()?.networks);
        targets.iter().try_for_each(|(address, payload)| {
            let size = payload.to_string();
            run(self
                .lab
                .enter_network(self)?
                .args(["ping", "-q", "-c", "1", "-W", "5", "-M", "do", "-s", &size])
                .arg(address.to_string()))
            .map(drop)
        })
    }
}

impl Lab {
    /// A command of this host in the network of a node that is on.
    pub fn enter_network(&self, node: &Container<'_>) -> Result<Command> {
        let leader = node.leader().with_context(|| format!("{} is off", node.name()))?;
        let mut command = Command::new("nsenter");
        command.args(["--target", &leader.to_string(), "--net"]);
        Ok(command)
    }
}

impl Wait {
    fn word(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Answers | Self::Settled => "settled",
        }
    }

    fn holds(self, status: &NodeStatus) -> bool {
        match self {
            Self::Answers => true,
            Self::Settled => status.subjects.values().all(|subject| subject.state.is_settled()),
            Self::Converged => status.is_converged(),
        }
    }
}

/// Whether a process is the first of the innermost namespace that it is in.
fn is_first(number: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
    let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    inner.and_then(|line| line.split_whitespace().last()) == Some("1")
}

/// A status in one line: every subject and where it stands, long reasons shortened.
pub fn text(status: &NodeStatus) -> String {
    let problems = status.bundle.problems.iter().map(|problem| format!("bundle: {problem}"));
    let subjects =
        status.subjects.iter().map(|(name, subject)| format!("{name} {}", subject.state));
    let all: Vec<_> = problems.chain(subjects).map(|text| short(&text)).collect();
    if all.is_empty() { "no bundle".to_owned() } else { all.join(", ") }
}

/// What a person reads of a reason before looking it up on the node.
fn short(text: &str) -> String {
    const LONG: usize = 200;
    let mut short: String = text.chars().take(LONG).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
