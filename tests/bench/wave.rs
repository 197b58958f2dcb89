//! A wave over three coordinators and a hypervisor in containers, from the old release to the new one, while ZooKeeper,
//! Postgres and an RBD image are written to each 100 ms: for how long quorums were lost, and what the writers saw.

use std::io::stderr;
use std::path::Path;

use anyhow::{Result, ensure};
use trilith_tests::artifact;
use trilith_tests::clients::writers::Report;
use trilith_tests::lab::Release;
use trilith_tests::operator::version;
use trilith_tests::rehearsal::report::Summary;
use trilith_tests::rehearsal::{Order, rehearse};

use crate::table::Table;
use crate::upgrade::images;

pub(crate) fn figures(table: &mut Table) -> Result<()> {
    let (old, new) = images()?;
    let release = |image: &Path| -> Result<Release> {
        Ok(Release { version: version(image)?, root: image.with_extension("root") })
    };
    let order = Order {
        file: artifact::cluster("lab.yaml"),
        from: release(&old)?,
        to: release(&new)?,
        json: None,
        limit: None,
    };
    let summary = rehearse(&order, &mut stderr())?;
    ensure!(summary.stopped.is_none(), "{}", summary.text());
    show(table, &summary);
    Ok(())
}

fn show(table: &mut Table, summary: &Summary) {
    table.add(
        &format!("a wave over {} nodes", summary.nodes),
        &format!("{} s", summary.seconds),
        "",
    );
    for (quorum, seconds) in summary.quorums() {
        table.add(&format!("  quorum lost: {quorum}"), &format!("{seconds} s"), "0 s");
    }
    for written in &summary.writers {
        let Report { kind, written, errors, lost, worst, median, .. } = &written.report;
        table.add(&format!("  writes into {kind}"), &format!("{written}, {errors} errors"), "");
        table.add("    lost", &lost.len().to_string(), "0");
        table.add("    pause, in the median", &format!("{median:.2} s"), "");
        table.add("    pause, at worst", &format!("{worst:.2} s"), "");
    }
}
