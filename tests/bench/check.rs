//! How long `trilith config check` takes for a cluster of a thousand nodes.

use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use trilith_tests::artifact;
use trilith_tests::command::run;

use crate::table::{Table, seconds};

const NODES: u16 = 1000;

pub(crate) fn thousand_nodes(table: &mut Table, rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("cluster.yaml");
    fs::write(&file, cluster()).context("cannot write the cluster file")?;
    let trilith = artifact::target().join("release/trilith");
    if !trilith.exists() {
        bail!("no {}: `cargo build --release --bin trilith` makes it", trilith.display());
    }
    let mut samples = Vec::new();
    for _ in 0..rounds.max(5) {
        let start = Instant::now();
        run(Command::new(&trilith).args(["config", "check"]).arg(&file))?;
        samples.push(start.elapsed().as_secs_f64());
    }
    let size = fs::metadata(&file)?.len() / 1024;
    table.add(
        &format!("config check, {NODES} nodes, {size} KiB, release build"),
        &seconds(&samples),
        "0.20 s",
    );
    Ok(())
}

fn cluster() -> String {
    let mut text = String::from(
        "version: 1\ncluster:\n  name: large\n  domain: large.example\ncoordinators: [1, 2, 3, 4, 5]\nlinks:\n",
    );
    text.push_str("  lan0: { nic: { driver: ixgbe } }\n");
    text.push_str("networks:\n  upstream: { link: lan0, ipv4: { subnet: 10.0.0.0/16, gateway: 10.0.255.254 } }\n");
    text.push_str("  cluster: { same_as: upstream }\n  storage: { same_as: upstream }\nnodes:\n");
    for id in 1..=NODES {
        let [high, low] = id.to_be_bytes();
        let _infallible = write!(
            text,
            "  - id: {id}\n    name: hv{id}\n    match:\n      serial: SN{id:06}\n    links:\n      lan0:\n        \
             nic:\n          mac: \"52:54:00:00:{high:02x}:{low:02x}\"\n    labels:\n      rack: r{}\n",
            id / 40
        );
    }
    text
}
