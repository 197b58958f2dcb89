//! Machines leave a node before it restarts in a wave: those that can, while they count on; one that cannot is told, and one
//! whose move fails stops the wave with libvirt's words.

use anyhow::{Context as _, Result, ensure};
use trilith_tests::firmware::{Firmware, upgrade};
use trilith_tests::lab::{Container, Lab};
use trilith_tests::quorums::PATIENCE;

use super::rolling::{SECOND, follow};
use super::with_slots;
use crate::machines::{Machine, disk, put, virsh};

/// On every node, as a medium that is only read.
const MEDIUM: &str = "/var/lib/libvirt/images/medium.img";
/// As that, and forgotten on all nodes but one.
const FORGOTTEN: &str = "/var/lib/libvirt/images/forgotten.img";
/// Written to, and on one node.
const LOCAL: &str = "/var/lib/libvirt/images/local.img";

/// The unit that moves machines.
const UNIT: &str = "trilith-evacuate.service";

#[test]
fn a_node_is_evacuated_before_it_restarts() -> Result<()> {
    let lab = with_slots("10m")?;
    let machines = furnish(&lab)?;
    one_that_cannot_move_is_told(&lab, &machines)?;
    a_move_that_fails_stops_the_wave(&lab, &machines)?;
    the_others_are_not_asked_for_libvirt(&lab)?;
    the_node_restarts_without_them(&lab, &machines)?;
    lab.down()
}

/// All on n4, which comes first.
struct Machines {
    /// It would outlive a restart of libvirt's daemon.
    lasting: Machine,
    /// It would not.
    passing: Machine,
    /// Its disk is on its node alone.
    local: Machine,
}

fn furnish(lab: &Lab) -> Result<Machines> {
    let named = |name: &str| Machine { name: name.to_owned() };
    let machines =
        Machines { lasting: named("lasting"), passing: named("passing"), local: named("stuck") };
    for node in lab.nodes() {
        put(&node, MEDIUM, &disk())?;
    }
    let node = lab.node("n4")?;
    put(&node, FORGOTTEN, &disk())?;
    put(&node, LOCAL, &disk())?;
    let path = "/run/lasting.xml";
    let lasting = machines.lasting.description(&drive(MEDIUM, "<readonly/>"));
    put(&node, path, lasting.as_bytes())?;
    virsh(&node, &format!("define {path}"))?;
    virsh(&node, "start lasting")?;
    machines.passing.start_with(&node, &drive(FORGOTTEN, "<readonly/>"))?;
    machines.local.start_with(&node, &drive(LOCAL, ""))?;
    for machine in [&machines.lasting, &machines.passing, &machines.local] {
        machine.counts_on(&node, 0)?;
    }
    Ok(machines)
}

fn drive(path: &str, readonly: &str) -> String {
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'/>
         <target dev='vda' bus='virtio'/>{readonly}</disk>"
    )
}

/// In the plan and while the wave waits; nothing is moved before it is gone.
fn one_that_cannot_move_is_told(lab: &Lab, machines: &Machines) -> Result<()> {
    let node = lab.node("n4")?;
    let why = format!("machines: stuck cannot move: its disk vda is the file {LOCAL} of this node");
    node.until("the plan says which machine cannot move", PATIENCE, || {
        let plan = upgrade(lab, &[SECOND, "--plan"])?;
        ensure!(plan.contains(&format!("now against it: {why}")), "{plan}");
        ensure!(!plan.contains("lasting cannot") && !plan.contains("passing cannot"), "{plan}");
        Ok(())
    })?;
    upgrade(lab, &[SECOND, "--detach"])?;
    let shown = node.until("the wave waits for it", PATIENCE, || {
        let shown = upgrade(lab, &["--detach"])?;
        ensure!(shown.contains(&format!("waits: {why}")), "{shown}");
        Ok(shown)
    })?;
    println!("{shown}");
    for machine in [&machines.lasting, &machines.passing, &machines.local] {
        ensure!(machine.runs_on(&node)?, "{} has moved", machine.name);
    }
    virsh(&node, "destroy stuck").map(drop)
}

/// The first goes, though its move is slow and the program that has begun it is killed; the second cannot start elsewhere.
fn a_move_that_fails_stops_the_wave(lab: &Lab, machines: &Machines) -> Result<()> {
    let node = lab.node("n4")?;
    virsh(&node, "migrate-setspeed lasting 1")?;
    let count = machines.lasting.counts_on(&node, 0)?;
    node.until("the first is on its way", PATIENCE, || {
        let log = node.shell(&format!("journalctl --boot --output cat --unit {UNIT}"))?;
        ensure!(log.contains("lasting goes to "), "{log}\n{}", upgrade(lab, &["--detach"])?);
        Ok(())
    })?;
    // It may have come to its end just now.
    node.shell(&format!("systemctl kill --signal KILL {UNIT} || true"))?;
    let there = node.until("it is on another node", PATIENCE, || whereabouts(lab, "lasting"))?;
    let first = machines.lasting.counts_on(&there, count)?;
    ensure!(first < count + 300, "it went from {count} to {first}");
    ensure!(defined(&there, "lasting")? && !defined(&node, "lasting")?, "its definition");
    let shown = node.until("the wave has stopped", PATIENCE, || {
        let shown = upgrade(lab, &["--detach"])?;
        let failed = shown.contains("n4: passing could not be moved to ");
        ensure!(failed && shown.contains(FORGOTTEN) && shown.contains("halted: "), "{shown}");
        Ok(shown)
    })?;
    println!("{shown}");
    machines.passing.counts_on(&node, 0)?;
    ensure!(machines.passing.runs_on(&node)?, "a move that failed has ended it");
    Ok(())
}

/// The wave's program may not speak to libvirt on its node, and what may has no network.
fn the_others_are_not_asked_for_libvirt(lab: &Lab) -> Result<()> {
    let node = lab.node("n4")?;
    let wave = node.main_pid("trilith-wave.service")?;
    let inside = format!("nsenter --target {wave} --mount ls /run/libvirt/libvirt-sock");
    ensure!(node.shell(&inside).is_err(), "the wave sees libvirt's socket");
    ensure!(node.property(UNIT, "PrivateNetwork")? == "yes");
    Ok(())
}

/// Told to try again once the medium is everywhere, it moves what is left and restarts; nothing is moved back.
fn the_node_restarts_without_them(lab: &Lab, machines: &Machines) -> Result<()> {
    for node in lab.nodes() {
        put(&node, FORGOTTEN, &disk())?;
    }
    let count = machines.passing.counts_on(&lab.node("n4")?, 0)?;
    upgrade(lab, &[SECOND, "--again", "--detach"])?;
    let mut firmware = Firmware::new(lab);
    follow(&mut firmware, "the first one restarts", |it, _| !it.restarted.is_empty())?;
    upgrade(lab, &["--pause", "--detach"])?;
    ensure!(firmware.restarted == ["n4"], "{:?}", firmware.restarted);
    // The one that restarts has no libvirt yet.
    let found = |name: &str| {
        let what = format!("{name} runs on another node");
        lab.node("n1")?.until(&what, PATIENCE, || whereabouts(lab, name))
    };
    let there = found("passing")?;
    let first = machines.passing.counts_on(&there, count)?;
    println!("passing went from {count} on n4 to {first} on {}", there.name());
    let there = found("lasting")?;
    machines.lasting.counts_on(&there, 0)?;
    let back = format!("n4: runs {SECOND}, rests");
    follow(&mut firmware, "it is back", |_, shown| shown.contains(&back))?;
    found("passing")?;
    ensure!(upgrade(lab, &["--abort", "--detach"])?.contains("is aborted"));
    Ok(())
}

/// The one other node on which a machine runs.
fn whereabouts<'a>(lab: &'a Lab, name: &str) -> Result<Container<'a>> {
    let machine = Machine { name: name.to_owned() };
    let mut found = Vec::new();
    for node in lab.nodes().filter(Container::is_on) {
        if machine.runs_on(&node)? {
            found.push(node.name());
        }
    }
    ensure!(found.len() == 1 && found[0] != "n4", "{name} runs on {found:?}");
    lab.node(found.first().context("nowhere")?)
}

fn defined(node: &Container<'_>, name: &str) -> Result<bool> {
    Ok(virsh(node, "list --all --persistent --name")?.lines().any(|line| line == name))
}
