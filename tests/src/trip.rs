//! The way of a node from one release to the next, with its figures.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use trilith_core::release::Manifest;
use trilith_core::version::Version;

use crate::machine::REACTION;
use crate::node::Node;
use crate::operator::Operator;
use crate::server::Server;
use crate::upgrade::{self, Absence, Ended, Wish};

/// A node whose releases come from a web server here.
#[derive(Debug)]
pub struct Trip<'a> {
    /// The node.
    pub node: Node<'a>,
    /// Who makes its releases.
    pub operator: &'a Operator,
    /// Where they come from.
    pub server: &'a Server,
    /// Who sees when it is away.
    pub absence: Absence,
}

/// What it cost to stage a release.
#[derive(Debug, Clone, Copy)]
pub struct Staged {
    /// Bytes that were fetched.
    pub fetched: u64,
    /// Bytes that all of it would have been: root, hash tree and system, compressed.
    pub whole: u64,
    /// From the wish to the end.
    pub took: Duration,
    /// The most bytes of memory that the updater had at once.
    pub memory: u64,
}

impl Trip<'_> {
    /// A wish from the releases of this operator.
    pub fn wish<'v>(&self, version: &'v Version) -> Result<Wish<'v>> {
        let (source, trust) = (self.server.url(), self.operator.trust()?);
        Ok(Wish { version, source, trust, activate: false, back: false, trial: 900 })
    }

    /// Stages a release that is on the node no more, or not yet, and looks at what boots: that is what runs.
    pub fn stage(&self, wish: &Wish<'_>) -> Result<Staged> {
        let running: Version = upgrade::running(&self.node)?.parse()?;
        self.server.take_sent();
        let start = Instant::now();
        upgrade::wish(&self.node, wish)?;
        upgrade::wait_staged(&self.node, wish.version)?;
        let took = start.elapsed();
        let fetched = self.server.take_sent();
        let memory = memory(&self.node)?;
        let after = upgrade::look(&self.node)?;
        ensure!(
            after.rests_on(&running),
            "staging {} has changed what boots: {after}",
            wish.version
        );
        let whole = whole(&self.operator.manifest(wish.version)?);
        Ok(Staged { fetched, whole, took, memory })
    }

    /// Has a release started that is staged, or still in the other slot, and waits until the node rests on it; gives how long the node was away.
    pub fn activate(&mut self, wish: &Wish<'_>) -> Result<(Ended, Duration)> {
        self.absence.take_longest();
        upgrade::wish(&self.node, &Wish { activate: true, ..wish.clone() })?;
        self.node.machine().wait_reset(upgrade::STAGING)?;
        let ended = upgrade::wait_rest(&self.node, [wish.version, wish.version])?;
        Ok((ended, self.away()?))
    }

    /// Reboots the node, as a person does; gives how long it was away.
    pub fn reboot(&mut self) -> Result<Duration> {
        self.absence.take_longest();
        self.node.restart()?;
        self.away()
    }

    /// How long it was away, now that it is back.
    fn away(&self) -> Result<Duration> {
        let console = self.node.console();
        console.until("it is seen again", REACTION, || {
            let longest = self.absence.longest();
            ensure!(longest > Duration::from_secs(2), "it was away for {longest:?}");
            Ok(longest)
        })
    }
}

/// The most that the updater itself had so far: what its unit counts is more, for the page cache is in it.
fn memory(node: &Node<'_>) -> Result<u64> {
    let unit = "systemctl show --property=MainPID --value trilith-update.service";
    let said = node.ssh(&format!("grep VmHWM: /proc/$({unit})/status"))?;
    let kibibytes = said.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    let kibibytes = kibibytes.with_context(|| format!("no peak: {said:?}"))?;
    Ok(kibibytes << 10)
}

/// What a node without anything would fetch.
pub fn whole(manifest: &Manifest) -> u64 {
    [&manifest.uki, &manifest.root, &manifest.verity].iter().map(|part| part.whole.size).sum()
}

impl fmt::Display for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fetched, whole, took, memory } = self;
        let tenths =
            |bytes: &u64| format!("{}.{} MiB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20);
        write!(
            f,
            "{} fetched of {} ({} per mille), staged in {} s, at most {} of memory",
            tenths(fetched),
            tenths(whole),
            fetched * 1000 / (*whole).max(1),
            took.as_secs(),
            tenths(memory)
        )
    }
}
