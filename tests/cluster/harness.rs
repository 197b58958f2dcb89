//! The lab's own promises.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use trilith_tests::artifact;
use trilith_tests::command::{run, sh};
use trilith_tests::lab::{Container, Cut, Lab, Spec};

/// How long a node may take from power-on until its network stands.
const BOOT: Duration = Duration::from_mins(1);

fn up(nodes: usize) -> Result<Lab> {
    let lab = Lab::tied(&Spec { nodes: Some(nodes), ..Spec::sample()? })?;
    lab.names().into_iter().try_for_each(|name| lab.start(name))?;
    for node in lab.nodes() {
        network_stands(&node)?;
    }
    Ok(lab)
}

fn network_stands(node: &Container<'_>) -> Result<()> {
    let stands = |status: &trilith_core::status::NodeStatus| {
        status.subjects.get("network").is_some_and(|network| network.has_converged)
    };
    node.wait_status("its network stands", BOOT, stands).map(drop)
}

fn reaches(from: &Container<'_>, to: &str) -> bool {
    from.shell(&format!("ping -q -c 1 -W 1 {to}")).is_ok()
}

#[test]
fn nodes_boot_reach_each_other_and_are_cut_and_healed() -> Result<()> {
    let lab = up(4)?;
    for one in lab.nodes() {
        for other in lab.nodes() {
            one.ping_all(&other)?;
        }
        ensure!(one.shell("hostname")?.trim() == one.name());
    }
    let (n1, n2, n3) = (lab.node("n1")?, lab.node("n2")?, lab.node("n3")?);
    let (upstream, cluster) = ("10.30.0.1", "10.30.1.1");

    let cut = Cut { node: "n1".into(), from: vec!["n2".into()], network: Some("cluster".into()) };
    lab.cut(cut)?;
    ensure!(!reaches(&n2, cluster) && !reaches(&n2, "fd30:1::1"), "the cut does not cut");
    ensure!(reaches(&n2, upstream) && reaches(&n3, cluster), "the cut cuts too much");
    ensure!(!reaches(&n1, "10.30.1.2"), "a cut holds both ways");

    lab.heal(&[])?;
    lab.cut(Cut { node: "n1".into(), from: Vec::new(), network: None })?;
    ensure!(!reaches(&n3, upstream) && !reaches(&n3, cluster) && !reaches(&n1, "10.30.0.254"));
    ensure!(reaches(&n3, "10.30.1.2"), "the others still talk");

    lab.heal(&["n1"])?;
    n1.until("the node is back", Duration::from_secs(10), || {
        ensure!(reaches(&n3, cluster) && reaches(&n1, "10.30.0.254"));
        Ok(())
    })?;
    lab.down()
}

#[test]
fn a_node_keeps_what_it_had_through_a_power_cut_and_loses_it_when_wiped() -> Result<()> {
    let lab = up(2)?;
    let node = lab.node("n1")?;
    let id = node.shell("cat /etc/machine-id")?;
    ensure!(id.trim().len() == 32 && id != lab.node("n2")?.shell("cat /etc/machine-id")?);
    let disk = "/dev/disk/by-id/lab-osd0";
    node.shell(&format!("echo kept >/var/kept; echo kept >{disk}; echo gone >/etc/gone; sync"))?;

    lab.kill("n1")?;
    ensure!(!node.is_on() && node.leader().is_none());
    let error = node.shell("true").unwrap_err().to_string();
    ensure!(error.contains("n1 is off: `ci/lab start n1`"), "{error}");
    lab.start("n1")?;
    network_stands(&node)?;
    ensure!(node.shell("cat /etc/machine-id")? == id);
    ensure!(node.shell(&format!("cat /var/kept; head -c 5 {disk}"))? == "kept\nkept\n");
    ensure!(node.shell("test -e /etc/gone").is_err(), "/etc is new at each boot");

    lab.stop("n1")?;
    ensure!(lab.console("n1")?.contains("Reached target poweroff.target"), "no orderly end");
    lab.wipe("n1")?;
    lab.start("n1")?;
    network_stands(&node)?;
    ensure!(node.shell("cat /etc/machine-id")? != id, "a wiped node is a new one");
    ensure!(
        node.shell(&format!("test -e /var/kept || head -c 5 {disk} | tr -d '\\0'"))?.is_empty()
    );
    Ok(())
}

#[test]
fn nothing_is_left_after_a_panic_nor_after_down() -> Result<()> {
    let before = left()?;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let lab = up(1).unwrap();
        assert!(lab.names().is_empty(), "the test fails here");
    }));
    ensure!(panicked.is_err(), "it did not panic");
    ensure!(left()? == before, "before: {before:#?}\nleft: {:#?}", left()?);

    let name = format!("promises-{}", std::process::id());
    let program = artifact::program("trilith-lab")?;
    run(Command::new(&program).args(["--lab", &name, "up", "--nodes", "1", "--wait", "answers"]))?;
    ensure!(left()? != before, "the lab is not to be seen: the comparison compares nothing");
    run(Command::new(&program).args(["--lab", &name, "down"]))?;
    ensure!(left()? == before, "before: {before:#?}\nleft: {:#?}", left()?);
    Ok(())
}

/// What a lab could leave behind on this host, other labs' included.
fn left() -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let lab = artifact::target().join("lab");
    let lab = lab.display().to_string();
    let mut left: Vec<_> =
        mounts.lines().filter(|line| line.contains(&lab)).map(str::to_owned).collect();
    let loops = sh("losetup --list --noheadings --output NAME,BACK-FILE")?;
    left.extend(loops.lines().filter(|line| line.contains(&lab)).map(str::to_owned));
    for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&lab) {
            left.push(line);
        }
    }
    let folder = fs::read_dir(artifact::target().join("lab"))?.filter_map(Result::ok);
    left.extend(folder.map(|entry| entry.path().display().to_string()));
    left.sort();
    Ok(left)
}
