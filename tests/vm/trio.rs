//! A whole cluster in three machines: installed one after the other from one stick, then switched on together; and upgraded
//! by a wave.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_yaml::Value;
use trilith_core::status::State;
use trilith_core::version::Version;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::command::run;
use trilith_tests::laid::lay;
use trilith_tests::machine::{Bus, Disk, Hardware, Nic, Place, Spec};
use trilith_tests::network::{Network, Switch};
use trilith_tests::node::Node;
use trilith_tests::operator::{Operator, version};
use trilith_tests::server::Server;
use trilith_tests::trip::whole;
use trilith_tests::upgrade;

use crate::faults::next_image;
use crate::install::{SIZE, TARGET, runs_from, wait_installed};

/// How long three emulated machines on two cores may take for what takes servers a minute.
const FORMED: Duration = Duration::from_mins(45);
/// How long they may take for a wave: three restarts, each with the time until the node has rejoined its quorums.
const WAVE: Duration = Duration::from_mins(80);
/// Ceph and Postgres beside the agent.
const MEMORY: u32 = 4096;

/// ZooKeeper's, Ceph's and Patroni's quorums, OSDs and pools among them, with nobody having named a first node.
#[test]
fn three_nodes_installed_from_a_stick_form_their_quorums() -> Result<()> {
    let network = Network::isolate()?;
    let switch = lan(&network)?;
    let cluster = cluster(|_| ())?;
    let stick = Disk::medium(cluster.medium(&artifact::image()?)?, Bus::Usb);
    let start = Instant::now();
    let mut machines = Vec::new();
    for id in 1..=3 {
        machines.push((id, install(&cluster, &switch, &stick, id)?));
        eprintln!("node {id} is installed, after {:.0} s", start.elapsed().as_secs_f64());
    }
    let nodes = form(&cluster, machines)?;
    for node in &nodes {
        runs_from(node, "vda")?;
    }
    let health = nodes.first().context("no node")?.ssh("ceph health")?;
    eprintln!("Ceph: {}", health.trim());
    Ok(())
}

/// `trilith upgrade` from one release to the next: one node after the other, with no hand in it. What it says is kept beside the
/// machines' logs.
#[test]
fn a_wave_goes_over_three_machines() -> Result<()> {
    let network = Network::isolate()?;
    let switch = lan(&network)?;
    let images = [artifact::image()?, next_image()?];
    let operator = Operator::kept(&[&images[0], &images[1]])?;
    let server = Server::start(&operator.releases(), PEER.parse()?)?;
    let trust = operator.trust()?;
    let cluster = cluster(|file| {
        file["update"]["source"] = server.url().into();
        file["update"]["trust"] = trust.into();
        file["update"]["trial"] = "40m".into();
    })?;
    cluster.make_operator(&["--admin"])?;
    let mut machines = Vec::new();
    for id in 1..=3 {
        let hardware = assemble(&cluster, &switch, None, id)?;
        lay(&hardware.file(TARGET)?, &operator, &images[0], false)?;
        machines.push((id, hardware));
    }
    let nodes = form(&cluster, machines)?;
    let new = version(&images[1])?;
    let log = a_wave_to(&cluster, &nodes, &new)?;
    fs::write(artifact::machines()?.join(format!("wave-to-{new}.log")), log)?;
    for node in &nodes {
        node.console().until("its quorums stand after the wave", FORMED, || stands(node))?;
        ensure!(upgrade::look(node)?.rests_on(&new), "{}", upgrade::look(node)?);
    }
    let flags = nodes.first().context("no node")?.ssh("ceph osd dump | grep -c noout || true")?;
    ensure!(flags.trim() == "0", "noout is left behind");
    let one = whole(&operator.manifest(&new)?);
    eprintln!(
        "{} bytes came from the web server for three nodes, and {one} is one whole",
        server.take_sent()
    );
    Ok(())
}

/// Begins it and waits for its end; gives what was said meanwhile, with the seconds.
fn a_wave_to(cluster: &Cluster, nodes: &[Node<'_>], version: &Version) -> Result<String> {
    let say = |words: &[&str]| run(&mut cluster.upgrade(words)?);
    let node = nodes.first().context("no node")?;
    let plan = node.console().until("nothing speaks against the first", FORMED, || {
        let plan = say(&[version.as_str(), "--plan"])?;
        ensure!(!plan.lines().nth(1).is_some_and(|line| line.starts_with(' ')), "{plan}");
        Ok(plan)
    })?;
    let mut log = plan;
    eprintln!("{log}");
    let start = Instant::now();
    say(&[version.as_str(), "--detach"])?;
    let (over, mut last) = (format!("wave: all nodes run {version}"), String::new());
    node.console().outlast("the wave is over", WAVE, || {
        // Whoever is asked may be restarting.
        let shown = say(&["--detach"])?;
        if shown != last {
            let seconds = start.elapsed().as_secs();
            eprintln!("after {seconds} s:\n{shown}");
            writeln!(log, "after {seconds} s:\n{shown}")?;
            last.clone_from(&shown);
        }
        ensure!(!shown.contains("halted: "), "{shown}");
        ensure!(shown.contains(&over), "{shown}");
        Ok(())
    })?;
    eprintln!("a wave over three machines: {} s", start.elapsed().as_secs());
    Ok(log)
}

/// This namespace's own address, which is the gateway's.
const PEER: &str = "10.10.0.254";

fn lan(network: &Network) -> Result<Switch> {
    let switch = network.switch("sw0")?;
    switch.peer(&[format!("{PEER}/24")])?;
    Ok(switch)
}

/// The example cluster, whose nodes are on the disk [`TARGET`].
fn cluster(change: impl FnOnce(&mut Value)) -> Result<Cluster> {
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    cluster.edit(|file| {
        if let Some(rule) = file["node_defaults"]["system_disk"].as_mapping_mut() {
            rule.clear();
            rule.insert("serial".into(), TARGET.into());
        }
        change(file);
    })?;
    Ok(cluster)
}

/// Switches all on, and waits for their quorums.
fn form(cluster: &Cluster, machines: Vec<(u16, Hardware)>) -> Result<Vec<Node<'_>>> {
    let start = Instant::now();
    let switch_on = |(id, hardware)| Node::switch_on(hardware, cluster, id);
    let nodes = machines.into_iter().map(switch_on).collect::<Result<Vec<_>>>()?;
    for node in &nodes {
        node.console().until("all its quorums stand", FORMED, || stands(node))?;
    }
    eprintln!("all quorums stand {:.0} s after power-on", start.elapsed().as_secs_f64());
    Ok(nodes)
}

/// Installs a node, and takes the stick out.
fn install(cluster: &Cluster, switch: &Switch, stick: &Disk, id: u16) -> Result<Hardware> {
    let mut node = Node::switch_on(assemble(cluster, switch, Some(stick), id)?, cluster, id)?;
    wait_installed(&mut node)?;
    let mut hardware = node.kill();
    hardware.pull(&stick.serial)?;
    Ok(hardware)
}

/// Without a stick it is told by its firmware who it is.
fn assemble(cluster: &Cluster, switch: &Switch, stick: Option<&Disk>, id: u16) -> Result<Hardware> {
    let tap = format!("tap{id}");
    switch.tap(&tap)?;
    let mac = format!("52:54:00:00:{id:02x}:00");
    let own = [
        Disk::empty(TARGET, Bus::Virtio, SIZE),
        // As large as the cluster file wants it, and empty: it takes no room.
        Disk::empty(&format!("OSD{id}"), Bus::Nvme, 1000),
    ];
    Hardware::assemble(Spec {
        disks: stick.cloned().into_iter().chain(own).collect(),
        bundle: if stick.is_some() { None } else { Some(cluster.bundle(id)?) },
        nics: vec![Nic { mac, tap, place: Place::Slot }],
        memory: MEMORY,
        ..Spec::new(cluster.node(id)?.name.as_str())
    })
}

fn stands(node: &Node<'_>) -> Result<()> {
    let status = node.status()?;
    for name in ["zookeeper", "ceph", "osds", "patroni", "pools", "frr"] {
        let subject = status.subjects.get(name).with_context(|| format!("no subject {name}"))?;
        ensure!(subject.state == State::Converged, "{name}: {subject:#?}");
    }
    Ok(())
}
