//! Whether the nodes of a cluster fit into the memory of this machine. Nodes that run out of it fail in ways that no
//! release is to blame for.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use trilith_core::config::{Config, Role};

/// What nodes of the lab have of their own, in MiB. Measured in waves were 660 for a coordinator without its OSD, 60 for
/// another node and 30 for an OSD of little data; the rest is for files that they keep in memory, and for peaks.
const COORDINATOR: u64 = 1000;
const HYPERVISOR: u64 = 200;
const OSD: u64 = 200;
/// The clients, and what this machine itself needs.
const BESIDE: u64 = 1024;

/// What these nodes need, in MiB.
pub fn needed(config: &Config) -> u64 {
    let node = |role: Role| match role {
        Role::Coordinator => COORDINATOR,
        Role::Hypervisor => HYPERVISOR,
    };
    let nodes = config.nodes.values().map(|it| node(it.role) + OSD * it.osds.len() as u64);
    nodes.sum::<u64>() + BESIDE
}

/// What this machine can give, in MiB.
pub fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    parse(&text).context("/proc/meminfo has no MemAvailable")
}

fn parse(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib >> 10)
}

/// For how long something has waited for a processor since this machine has started (Linux, Documentation/accounting/psi.rst);
/// nothing if the kernel does not count it.
pub fn waited() -> Option<Duration> {
    waited_in(&fs::read_to_string("/proc/pressure/cpu").ok()?)
}

fn waited_in(pressure: &str) -> Option<Duration> {
    let some = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some.split(' ').find_map(|word| word.strip_prefix("total="))?;
    Some(Duration::from_micros(total.parse().ok()?))
}

/// Refuses a cluster that does not fit.
pub fn check(config: &Config, available: u64) -> Result<()> {
    let (needed, nodes) = (needed(config), config.nodes.len());
    let (coordinators, osds) = (
        config.coordinators.len(),
        config.nodes.values().map(|node| node.osds.len()).sum::<usize>(),
    );
    ensure!(
        needed <= available,
        "{nodes} nodes ({coordinators} of them coordinators, {osds} OSDs in the lab) need {needed} MiB of memory, and this \
         machine has {available} MiB to give: use a larger one, or rehearse with a copy of the cluster file that has fewer \
         nodes"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact;

    #[test]
    fn what_does_not_fit_is_refused_with_numbers() {
        let text = fs::read_to_string(artifact::cluster("lab.yaml")).unwrap();
        let config = trilith_core::config::load(&text).unwrap();
        let needed = needed(&config);
        assert_eq!(needed, 3 * COORDINATOR + HYPERVISOR + 4 * OSD + BESIDE);
        assert!(check(&config, needed).is_ok());
        let error = check(&config, needed - 1).unwrap_err().to_string();
        let said = format!("4 nodes (3 of them coordinators, 4 OSDs in the lab) need {needed} MiB");
        assert!(error.starts_with(&said), "{error}");
    }

    #[test]
    fn the_kernel_says_how_long_something_waited() {
        let text = "some avg10=97.41 avg60=88.38 avg300=81.95 total=24607137880\nfull avg10=0.00 total=0\n";
        assert_eq!(waited_in(text), Some(Duration::from_micros(24_607_137_880)));
        assert_eq!(waited_in(""), None);
    }

    #[test]
    fn the_kernel_says_what_is_available() {
        let text = "MemTotal:       24574620 kB\nMemAvailable:   23178240 kB\nBuffers: 1 kB\n";
        assert_eq!(parse(text), Some(22635));
        assert_eq!(parse("MemTotal: 1 kB\n"), None);
        assert!(available().unwrap() > 0);
    }
}
