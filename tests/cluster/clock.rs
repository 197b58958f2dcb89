//! Ten minutes of clock difference on one node. Ceph's own daemons there keep the host's clock: with libfaketime they
//! crash.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use trilith_core::status::State;
use trilith_tests::lab::{Lab, Spec};
use trilith_tests::quorums::{all_formed, leader, sql, start, subject};

/// How long to look for a false alarm: several of every period in which somebody calls somebody dead.
const LOOK: Duration = Duration::from_mins(1);
/// How often.
const PERIOD: Duration = Duration::from_secs(2);

#[test]
fn ten_minutes_of_clock_difference_are_no_alarm() -> Result<()> {
    let clocks = vec![("n2".to_owned(), "+600s".to_owned())];
    let lab = Lab::tied(&Spec { clocks, ..Spec::sample()? })?;
    start(&lab, &lab.names())?;
    all_formed(&lab)?;
    let clock = |name: &str| -> Result<i64> {
        // A unit's own clock: what the node's services see.
        let now = lab.node(name)?.shell("systemd-run --quiet --wait --pipe date +%s")?;
        Ok(now.trim().parse()?)
    };
    let ahead = clock("n2")? - clock("n1")?;
    ensure!((590..620).contains(&ahead), "n2 is {ahead} s ahead: the lab does not set its clock");

    let timeline = "select timeline_id from pg_control_checkpoint()";
    let before = (leader(&lab)?, sql(&lab, "n1", timeline)?);
    let begin = Instant::now();
    while begin.elapsed() < LOOK {
        for node in lab.nodes() {
            let status = node.status()?;
            let zookeeper = subject(&status, "zookeeper")?;
            ensure!(zookeeper.state == State::Converged, "{}: {}", node.name(), zookeeper.state);
            for (peer, answers) in &status.peers {
                ensure!(answers.silent.is_none(), "{}: {peer}: {answers:?}", node.name());
            }
        }
        // A time and no state: that nothing happens can only be watched.
        thread::sleep(PERIOD);
    }
    let after = (leader(&lab)?, sql(&lab, "n1", timeline)?);
    ensure!(before == after, "leader of ZooKeeper and timeline: {before:?}, then {after:?}");
    Ok(())
}
