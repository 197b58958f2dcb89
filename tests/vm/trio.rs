//! A whole cluster from one stick: three machines, installed one after the other, then switched on together.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use trilith_core::status::State;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::machine::{Bus, Disk, Hardware, Nic, Place, Spec};
use trilith_tests::network::{Network, Switch};
use trilith_tests::node::Node;

use crate::install::{SIZE, TARGET, runs_from, wait_installed};

/// How long three emulated machines on two cores may take for what takes servers a minute.
const FORMED: Duration = Duration::from_mins(45);
/// Ceph and Postgres beside the agent.
const MEMORY: u32 = 4096;

/// ZooKeeper's, Ceph's and Patroni's quorums, OSDs and pools among them, with nobody having named a first node.
#[test]
fn three_nodes_installed_from_a_stick_form_their_quorums() -> Result<()> {
    let network = Network::isolate()?;
    let switch = network.switch("sw0")?;
    switch.peer(&["10.10.0.254/24"])?;
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    cluster.edit(|file| {
        if let Some(rule) = file["node_defaults"]["system_disk"].as_mapping_mut() {
            rule.clear();
            rule.insert("serial".into(), TARGET.into());
        }
    })?;
    let stick = Disk::medium(cluster.medium(&artifact::image()?)?, Bus::Usb);
    let start = Instant::now();
    let mut machines = Vec::new();
    for id in 1..=3 {
        machines.push((id, install(&cluster, &switch, &stick, id)?));
        eprintln!("node {id} is installed, after {:.0} s", start.elapsed().as_secs_f64());
    }
    let start = Instant::now();
    let switch_on = |(id, hardware)| Node::switch_on(hardware, &cluster, id);
    let nodes = machines.into_iter().map(switch_on).collect::<Result<Vec<_>>>()?;
    for node in &nodes {
        node.console().until("all its quorums stand", FORMED, || stands(node))?;
        runs_from(node, "vda")?;
    }
    eprintln!("all quorums stand {:.0} s after power-on", start.elapsed().as_secs_f64());
    let health = nodes.first().context("no node")?.ssh("ceph health")?;
    eprintln!("Ceph: {}", health.trim());
    Ok(())
}

/// Installs a node, and takes the stick out.
fn install(cluster: &Cluster, switch: &Switch, stick: &Disk, id: u16) -> Result<Hardware> {
    let tap = format!("tap{id}");
    switch.tap(&tap)?;
    let mac = format!("52:54:00:00:{id:02x}:00");
    let hardware = Hardware::assemble(Spec {
        disks: vec![
            stick.clone(),
            Disk::empty(TARGET, Bus::Virtio, SIZE),
            // As large as the cluster file wants it, and empty: it takes no room.
            Disk::empty(&format!("OSD{id}"), Bus::Nvme, 1000),
        ],
        nics: vec![Nic { mac, tap, place: Place::Slot }],
        memory: MEMORY,
        // Emulated processors that wait for each other's locks help nobody: three machines share what is there.
        cores: 1,
        ..Spec::new(cluster.node(id)?.name.as_str())
    })?;
    let mut node = Node::switch_on(hardware, cluster, id)?;
    wait_installed(&mut node)?;
    let mut hardware = node.kill();
    hardware.pull(&stick.serial)?;
    Ok(hardware)
}

fn stands(node: &Node<'_>) -> Result<()> {
    let status = node.status()?;
    for name in ["zookeeper", "ceph", "osds", "patroni", "pools", "frr"] {
        let subject = status.subjects.get(name).with_context(|| format!("no subject {name}"))?;
        ensure!(subject.state == State::Converged, "{name}: {subject:#?}");
    }
    Ok(())
}
