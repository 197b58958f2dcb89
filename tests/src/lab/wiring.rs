//! Cables between nodes and switches, and partitions: what the switches do not pass on.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Lab;
use super::plan::{NicPlan, NodePlan, Plan, Switch};
use crate::network::WIRE_MTU;

/// A partition: what one node says does not reach the others, nor what they say it. Its links stay up, as they
/// do behind a broken switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The node.
    pub node: String,
    /// The nodes that it is cut off from; empty: from everything, the lab's own addresses included.
    pub from: Vec<String>,
    /// On this core network alone; with none, on all.
    pub network: Option<String>,
}

const FILE: &str = "cuts.json";

impl Lab {
    /// Cuts a node off, besides the cuts that there are.
    pub fn cut(&self, cut: Cut) -> Result<()> {
        for name in cut.from.iter().chain([&cut.node]) {
            self.plan.node(name)?;
        }
        if let Some(network) = &cut.network
            && !self.plan.switches.iter().any(|switch| switch.networks.contains(network))
        {
            bail!("no core network {network}; there are upstream, cluster and storage");
        }
        let mut cuts = self.cuts()?;
        cuts.push(cut);
        self.set_cuts(&cuts)
    }

    /// Takes all cuts back, or with names those that concern these nodes.
    pub fn heal(&self, nodes: &[&str]) -> Result<()> {
        let mut cuts = self.cuts()?;
        for name in nodes {
            self.plan.node(name)?;
        }
        cuts.retain(|cut| {
            let concerned =
                nodes.iter().any(|name| cut.node == *name || cut.from.iter().any(|f| f == name));
            !nodes.is_empty() && !concerned
        });
        self.set_cuts(&cuts)
    }

    /// The cuts that there are.
    pub fn cuts(&self) -> Result<Vec<Cut>> {
        let path = self.folder.join(FILE);
        if !path.exists() {
            return Ok(Vec::new());
        }
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    fn set_cuts(&self, cuts: &[Cut]) -> Result<()> {
        feed(self.outside("nft").args(["--file", "-"]), &rules(&self.plan, cuts))?;
        fs::write(self.folder.join(FILE), serde_json::to_vec(cuts)?)?;
        Ok(())
    }

    /// Gives a node its network cards and plugs them in.
    pub(super) fn plug(&self, node: &NodePlan) -> Result<()> {
        let name = &node.name;
        self.ip(&format!("netns add {name}\n"))?;
        let mut lines = String::new();
        for NicPlan { name: nic, mac, port, switch } in &node.nics {
            writeln!(
                lines,
                "link add {port} mtu {WIRE_MTU} type veth peer name {nic} address {mac} netns {name}"
            )?;
            writeln!(lines, "link set {port} master {switch} up")?;
        }
        self.ip(&lines)
    }

    /// Pulls all cables of a node. What it says from now on reaches nobody.
    pub(super) fn unplug(&self, node: &NodePlan) -> Result<()> {
        let mut lines = String::new();
        for nic in &node.nics {
            writeln!(lines, "link del {}", nic.port)?;
        }
        self.ip(&lines)
    }

    /// Removes the network that a node had, once nothing runs in it.
    pub(super) fn forget_network(&self, node: &NodePlan) -> Result<()> {
        self.ip(&format!("netns del {}\n", node.name))
    }

    /// Runs lines of `ip -batch` in the lab.
    fn ip(&self, lines: &str) -> Result<()> {
        feed(self.keeper.enter(&["--mount", "--net"]).args(["ip", "-batch", "-"]), lines)
    }
}

/// Runs a program with this text on stdin.
fn feed(command: &mut Command, text: &str) -> Result<()> {
    let name = format!("{:?}", command.get_args().collect::<Vec<_>>());
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    // Closed at the end of this statement, which is what the program waits for.
    child.stdin.take().context("no stdin")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{name}: {}\n{text}", String::from_utf8_lossy(&output.stderr).trim_end())
}

/// The rules of nftables that make these cuts, and nothing else.
fn rules(plan: &Plan, cuts: &[Cut]) -> String {
    // Added, so that it can be removed; removed, so that nothing of before is left.
    let mut rules: Vec<String> =
        ["add", "delete", "add"].map(|verb| format!("{verb} table bridge lab")).into();
    for (chain, hook) in [("in", "prerouting"), ("out", "postrouting"), ("pass", "forward")] {
        rules.push(format!(
            "add chain bridge lab {chain} {{ type filter hook {hook} priority 0; }}"
        ));
    }
    rules.extend(cuts.iter().flat_map(|cut| drops(plan, cut)));
    rules.join("\n") + "\n"
}

fn drops(plan: &Plan, cut: &Cut) -> Vec<String> {
    let network = cut.network.as_deref();
    let own = ports(plan, &cut.node, network);
    if cut.from.is_empty() {
        let both = |port| [("in", format!("iifname {port}")), ("out", format!("oifname {port}"))];
        let rules = own.into_iter().flat_map(both);
        return rules
            .map(|(chain, what)| format!("add rule bridge lab {chain} {what} drop"))
            .collect();
    }
    let others: Vec<&str> = cut.from.iter().flat_map(|name| ports(plan, name, network)).collect();
    let pairs = own.into_iter().flat_map(|port| others.iter().map(move |other| (port, *other)));
    pairs
        .flat_map(|(port, other)| [(port, other), (other, port)])
        .map(|(from, to)| format!("add rule bridge lab pass iifname {from} oifname {to} drop"))
        .collect()
}

/// The ends of a node's cables on the switches that carry this core network, or on all.
fn ports<'a>(plan: &'a Plan, node: &str, network: Option<&str>) -> Vec<&'a str> {
    let carries =
        |switch: &Switch| network.is_none_or(|name| switch.networks.iter().any(|n| n == name));
    let switches: Vec<&str> =
        plan.switches.iter().filter(|s| carries(s)).map(|switch| switch.name.as_str()).collect();
    let nics = plan.nodes.iter().filter(|known| known.name == node).flat_map(|node| &node.nics);
    nics.filter(|nic| switches.contains(&&*nic.switch)).map(|nic| nic.port.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn plan() -> Plan {
        let nic = |id, number: usize| NicPlan {
            name: format!("eth{number}"),
            mac: String::new(),
            port: format!("n{id}p{number}"),
            switch: format!("sw{number}"),
        };
        let node = |id| NodePlan {
            id,
            name: format!("n{id}"),
            nics: vec![nic(id, 0), nic(id, 1)],
            disks: Vec::new(),
            clock: None,
        };
        let switch = |number, network: &str| Switch {
            name: format!("sw{number}"),
            networks: vec![network.to_owned()],
            addresses: Vec::new(),
        };
        Plan {
            root: "root".into(),
            tools: "tools".into(),
            releases: BTreeMap::new(),
            agent: None,
            overlay: None,
            switches: vec![switch(0, "upstream"), switch(1, "cluster")],
            nodes: vec![node(1), node(2)],
        }
    }

    fn cut(from: &[&str], network: Option<&str>) -> Cut {
        Cut {
            node: "n1".into(),
            from: from.iter().map(ToString::to_string).collect(),
            network: network.map(str::to_owned),
        }
    }

    #[test]
    fn a_node_alone_hears_and_says_nothing() {
        let rules = drops(&plan(), &cut(&[], None));
        assert_eq!(rules.len(), 4, "{rules:#?}");
        assert_eq!(rules[0], "add rule bridge lab in iifname n1p0 drop");
        assert_eq!(rules[1], "add rule bridge lab out oifname n1p0 drop");
    }

    #[test]
    fn two_nodes_are_cut_both_ways_on_one_network() {
        let rules = drops(&plan(), &cut(&["n2"], Some("cluster")));
        let pass = |from, to| format!("add rule bridge lab pass iifname {from} oifname {to} drop");
        assert_eq!(rules, [pass("n1p1", "n2p1"), pass("n2p1", "n1p1")]);
    }

    #[test]
    fn healed_is_an_empty_table() {
        let rules = rules(&plan(), &[]);
        assert!(rules.starts_with("add table bridge lab\ndelete table bridge lab\n"), "{rules}");
        assert!(!rules.contains("drop"), "{rules}");
    }
}
