//! An upgrade of an operator's own cluster, in the lab: a wave from one release to the next while clients write and watch.
//!
//! Every node runs the programs of the release that it is on, and what decides is the real thing: agents, wave and gate,
//! ZooKeeper, Ceph, Patroni. Stand-ins are the slots, the boot loader and what fetches releases (see [`crate::lab`]).

pub mod images; // roots of releases, unpacked
pub mod remap; // the cluster file as it can stand in containers
pub mod report; // how it went
pub mod room; // whether the nodes fit into this machine
pub mod screen; // what people and programs are shown
pub mod timeline; // what clients saw in each second
mod wave; // the wave itself

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use serde_json::json;
use trilith_core::config::Config;

use crate::clients::watchers::Watchers;
use crate::clients::writers::{Report, Writers};
use crate::firmware::upgrade;
use crate::lab::{Lab, Plan, Release, Spec};
use crate::quorums::{PATIENCE, all_formed, ceph, coordinators, zookeeper_serves};
use remap::Remapped;
use report::{Summary, Written};
use screen::Screen;
use timeline::{LEGEND, Timeline};
use wave::Wave;

/// What is asked for.
#[derive(Debug)]
pub struct Order {
    /// The operator's cluster file.
    pub file: PathBuf,
    /// The release that the nodes have.
    pub from: Release,
    /// The release that they get.
    pub to: Release,
    /// Where all that is seen is written to as well.
    pub json: Option<PathBuf>,
    /// How long the wave may take.
    pub limit: Option<Duration>,
}

/// How long a cluster may take to form here, and to be whole again: all nodes start at once, and share the processors.
const FORMING: Duration = Duration::from_mins(15);

/// Does it. An error is what kept it from coming to an end; what came of it is in the summary.
pub fn rehearse(order: &Order, out: &mut dyn Write) -> Result<Summary> {
    let text = fs::read_to_string(&order.file)
        .with_context(|| format!("cannot read {}", order.file.display()))?;
    let Remapped { file, changes } = remap::remap(&text)?;
    let mut screen = Screen::new(out, order.json.as_deref())?;
    screen.say(&format!("{} is rehearsed with these changes:", order.file.display()))?;
    for change in &changes {
        screen.line(&format!("  {change}"))?;
        screen.record(&json!({ "change": change }))?;
    }
    let lab = make(order, &file)?;
    form(&lab, order, &mut screen)?;
    let summary = upgrade_all(&lab, order, &mut screen)?;
    screen.line(summary.text().trim_end())?;
    screen.record(&json!({ "end": &summary, "good": summary.troubles().is_empty() }))?;
    lab.down()?;
    Ok(summary)
}

/// The wave, from its plan to the last look.
fn upgrade_all(lab: &Lab, order: &Order, screen: &mut Screen<'_>) -> Result<Summary> {
    let config = lab.cluster().config();
    screen.say("the writers begin")?;
    let (writers, watchers) = (Writers::start(lab)?, Watchers::start(lab)?);
    show_plan(lab, order, screen)?;
    let (begin, before) = (Instant::now(), room::waited());
    LEGEND.iter().try_for_each(|line| screen.line(line))?;
    let mut wave = Wave::begin(lab, order, (&writers, &watchers))?;
    let stopped = wave.follow(screen, order.limit.unwrap_or_else(|| limit(config)))?;
    let waited = room::waited().zip(before);
    let waited = waited.map(|(now, before)| per_cent(now.saturating_sub(before), begin.elapsed()));
    let stopped =
        stopped.or_else(|| within(PATIENCE, || all_formed(lab)).err().map(|it| broken(&it)));
    screen.say("what was written is read again")?;
    let (end, timeline, restarts) = wave.end();
    let (reports, unread) = match writers.end() {
        Ok(reports) => (reports, None),
        Err(error) => (Vec::new(), Some(format!("what was written cannot be read: {error:#}"))),
    };
    Ok(Summary {
        cluster: config.name.to_string(),
        from: order.from.version.to_string(),
        to: order.to.version.to_string(),
        nodes: config.nodes.len(),
        seconds: timeline.at(end).0,
        stopped: stopped.or(unread),
        restarts,
        lost: timeline.lost(end),
        writers: written(reports, &timeline, end),
        waited,
    })
}

fn per_cent(part: Duration, whole: Duration) -> u64 {
    (part.as_millis() * 100 / whole.as_millis().max(1)).try_into().unwrap_or(100)
}

fn broken(error: &anyhow::Error) -> String {
    format!("after the wave not all is as before: {error:#}")
}

/// A wave does a node in a minute or two on a machine with a processor for each.
fn limit(config: &Config) -> Duration {
    Duration::from_mins(10 + 8 * config.nodes.len() as u64)
}

/// The lab, all nodes off, if they fit into this machine.
fn make(order: &Order, file: &str) -> Result<Lab> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("cluster.yaml");
    fs::write(&path, file)?;
    let config = trilith_core::config::load(file)
        .map_err(|problems| anyhow!("the file for the lab is wrong: {problems:#?}"))?;
    Plan::wires(&config)?;
    room::check(&config, room::available()?)?;
    let releases = [&order.from, &order.to].map(images::unpacked);
    let releases = releases.into_iter().collect::<Result<_>>()?;
    // Each release has its own agent, whatever else is tried in labs here.
    let own = Spec { agent: None, overlay: None, ..Spec::sample()? };
    Lab::tied(&Spec { cluster: path, slots: true, releases, ..own })
}

/// Starts every node with the first release, and waits until they are a cluster.
fn form(lab: &Lab, order: &Order, screen: &mut Screen<'_>) -> Result<()> {
    let (from, names) = (&order.from.version, lab.names());
    screen.say(&format!("{} nodes start with {from}: {}", names.len(), names.join(", ")))?;
    for name in names {
        lab.install(name, from)?;
        lab.boot_newest(name)?;
    }
    let all = coordinators(lab)?;
    within(FORMING, || zookeeper_serves(lab, &all)).context("ZooKeeper does not form")?;
    screen.say("ZooKeeper has its quorum")?;
    within(FORMING, || ceph::monitors_serve(lab, &all)).context("Ceph does not form")?;
    screen.say("Ceph's monitors have theirs")?;
    within(FORMING, || all_formed(lab)).context("the cluster does not form")?;
    screen.say("Ceph's data, Patroni and routing are whole")?;
    lab.cluster().make_operator(&["--admin"])
}

/// What waits by itself gives up early: here a node may wait for the others' processors for long.
fn within(patience: Duration, attempt: impl Fn() -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(error) if begin.elapsed() > patience => return Err(error),
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
    }
}

/// What the wave would do now; it may still have reasons to wait.
fn show_plan(lab: &Lab, order: &Order, screen: &mut Screen<'_>) -> Result<()> {
    let asked = lab.node(lab.names().first().context("no nodes")?)?;
    let plan = asked.until("every node says where it stands", PATIENCE, || {
        upgrade(lab, &[order.to.version.as_str(), "--plan"])
    })?;
    screen.say(&format!("the order, as it is now, to {}:", order.to.version))?;
    screen.line(plan.trim_end())
}

fn written(reports: Vec<Report>, timeline: &Timeline, end: u64) -> Vec<Written> {
    let silent = timeline.without_a_write(end);
    reports.into_iter().zip(silent).map(|(report, silent)| Written { report, silent }).collect()
}
