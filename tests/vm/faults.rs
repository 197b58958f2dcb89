//! The fault matrix: a node on an old release gets a new one that is broken in one thing, or loses its power in the middle,
//! and ends on the old one by itself; with Secure Boot and without it. `ci/faults` runs all of it and prints the table.
//!
//! Faults are put behind the updater's own checks, which would refuse most of them: what is shown is what happens when a
//! release is broken in a way that nobody has seen before the reboot.

mod bench; // the node before the upgrade, frozen, to go on from there as often as wanted
mod cases; // every fault
mod row; // one fault, from the reboot to where the node rests

use std::env;
use std::fmt::Write as _;

use anyhow::{Result, ensure};
use trilith_tests::upgrade::TRIAL;

use bench::Bench;
pub(crate) use bench::{checks_signatures, next_image};
use cases::{Case, cases};
use row::Row;

/// Names of rows, with commas between them: nothing else is run then.
const ONLY: &str = "TRILITH_FAULTS";

/// What CI runs of it, in half an hour: the way forward, and a way back of each kind: by the firmware, and by the gate. (The
/// updater is ended at every step without a machine as well, in `updates`.)
const FAST: [&str; 3] = ["no fault", "UKI signed by a stranger", "agent missing"];

#[test]
fn every_fault_with_secure_boot() -> Result<()> {
    matrix(true, |_| true)
}

#[test]
fn every_fault_without_secure_boot() -> Result<()> {
    matrix(false, |_| true)
}

#[test]
fn the_fast_ones_with_secure_boot() -> Result<()> {
    matrix(true, |case| FAST.contains(&case.name))
}

/// Runs the rows that are wanted, all of them also when some fail, and prints the table.
fn matrix(secure_boot: bool, wanted: impl Fn(&Case) -> bool) -> Result<()> {
    let only = env::var(ONLY).unwrap_or_default();
    let only: Vec<&str> = only.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let is_named = |case: &Case| only.is_empty() || only.contains(&case.name);
    let rows: Vec<Case> =
        cases().into_iter().filter(|case| wanted(case) && is_named(case)).collect();
    ensure!(!rows.is_empty(), "{ONLY} names no fault that is here: {only:?}");
    let bench = Bench::new(secure_boot)?;
    let mut table = String::new();
    let mut wrong = Vec::new();
    for case in &rows {
        // What is wrong here is wrong for every row.
        bench.prepare(case.start)?;
        let row = Row::run(&bench, case);
        eprintln!("{row}");
        let _infallible = writeln!(table, "{row}");
        wrong.extend((!row.is_right()).then_some(case.name));
    }
    let recovered = rows.len() - wrong.len();
    let (all, limit) = (rows.len(), TRIAL.as_secs());
    eprintln!(
        "\n{}\n{table}{recovered} of {all} as they should be, each within {limit} s\n",
        Row::HEAD
    );
    ensure!(wrong.is_empty(), "not as they should be: {wrong:?}");
    Ok(())
}

/// Every name is there once, and what CI runs exists.
#[test]
fn rows_have_names() {
    let names: Vec<&str> = cases().iter().map(|case| case.name).collect();
    let different: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len());
    assert!(FAST.iter().all(|name| names.contains(name)));
    assert!(names.iter().all(|name| !name.contains(',')));
}
