//! How long a cluster takes to form and to come back, and what its agents cost when it stands.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use trilith_core::status::NodeStatus;
use trilith_tests::lab::{Container, Lab, Spec, Wait};
use trilith_tests::quorums::{PATIENCE, all_formed, start};

use crate::idle::{self, Idle};
use crate::table::{Table, seconds};

/// Forms the lab's cluster anew and starts it again with its data, as often as asked for, and then leaves it alone.
pub(crate) fn figures(table: &mut Table, rounds: usize) -> Result<()> {
    let lab = Lab::tied(&Spec::sample()?)?;
    let (mut formed, mut cold) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        lab.names().into_iter().try_for_each(|name| lab.wipe(name))?;
        formed.push(power_on(&lab)?);
        lab.names().into_iter().try_for_each(|name| lab.kill(name))?;
        cold.push(power_on(&lab)?);
        lab.names().into_iter().try_for_each(|name| lab.kill(name))?;
    }
    table.add("power-on with empty disks to all quorums formed", &seconds(&formed), "60 s");
    table.add("cold start of an existing cluster", &seconds(&cold), "45 s");
    power_on(&lab)?;
    costs(table, &lab)
}

fn power_on(lab: &Lab) -> Result<f64> {
    let begin = Instant::now();
    start(lab, &lab.names())?;
    all_formed(lab)?;
    Ok(begin.elapsed().as_secs_f64())
}

/// What a converged agent costs this node and the services that it asks.
pub(crate) struct Cost {
    pub(crate) idle: Idle,
    /// Questions and orders per second, by subject.
    requests: BTreeMap<String, f64>,
}

/// The dearest of the nodes counts.
pub(crate) fn costs(table: &mut Table, lab: &Lab) -> Result<()> {
    let costs = measure(lab)?;
    let most =
        |part: fn(&Idle) -> f64| costs.iter().map(|cost| part(&cost.idle)).fold(0.0, f64::max);
    let resident = format!("{:.1} MiB", most(|idle| idle.resident));
    table.add("trilithd in a formed cluster, resident memory", &resident, "30 MiB");
    let cpu = format!("{:.3} % over {:.0} s", most(|idle| idle.cpu), most(|idle| idle.window));
    table.add("trilithd in a formed cluster, CPU of a core", &cpu, "0.5 %");
    let wakes = format!("{:.2} per second", most(|idle| idle.wakes));
    table.add("trilithd in a formed cluster, wake-ups", &wakes, "");
    let mut requests: BTreeMap<&str, f64> = BTreeMap::new();
    for (subject, rate) in costs.iter().flat_map(|cost| &cost.requests) {
        let most = requests.entry(subject).or_default();
        *most = most.max(*rate);
    }
    for (subject, rate) in requests {
        let what = format!("  requests of one agent to {subject}");
        table.add(&what, &format!("{rate:.2} per second"), "");
    }
    Ok(())
}

/// All nodes over the same minute.
pub(crate) fn measure(lab: &Lab) -> Result<Vec<Cost>> {
    for node in lab.nodes() {
        node.wait(Wait::Settled, PATIENCE)?;
    }
    thread::scope(|scope| {
        let nodes: Vec<_> = lab.nodes().map(|node| scope.spawn(move || cost(&node))).collect();
        let join = |node: thread::ScopedJoinHandle<'_, Result<Cost>>| {
            node.join().map_err(|_| anyhow!("a measurement panicked"))?
        };
        nodes.into_iter().map(join).collect()
    })
}

fn cost(node: &Container<'_>) -> Result<Cost> {
    let before = requests(&node.status()?);
    let begin = Instant::now();
    let idle = Idle::read(&node.shell(idle::SCRIPT)?)?;
    let window = begin.elapsed().as_secs_f64();
    let rate = |(subject, asked): (String, f64)| {
        let before = before.get(&subject).copied().unwrap_or_default();
        (subject, (asked - before) / window)
    };
    let asks = |(_, asked): &(String, f64)| *asked > 0.0;
    Ok(Cost {
        idle,
        requests: requests(&node.status()?).into_iter().filter(asks).map(rate).collect(),
    })
}

/// How much each subject has asked so far.
fn requests(status: &NodeStatus) -> BTreeMap<String, f64> {
    let count = |requests: u64| u32::try_from(requests).map_or(f64::INFINITY, f64::from);
    status.subjects.iter().map(|(name, subject)| (name.clone(), count(subject.requests))).collect()
}
