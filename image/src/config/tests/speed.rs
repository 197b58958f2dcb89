//! A file of 1,000 nodes is checked in under 200 ms by a release build; a debug build may take longer. The
//! check is one thread that never waits, so that its processor time is the time it takes on an idle machine.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use trilith_core::config;

use super::folder;

const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 10_000 } else { 200 });

/// The sample with bonds and VLANs, grown to 1,000 nodes.
fn thousand_nodes() -> String {
    let sample = fs::read_to_string(folder("valid").join("bonds.yaml")).unwrap();
    let (head, _) = sample.split_once("\nnodes:\n").unwrap();
    let head = head
        .replace(".0/24", ".0/20")
        .replace("10.20.1.", "10.20.16.")
        .replace("fd20::2", "fd20::f:2");
    let mut text = head.replace("10.20.2.", "10.20.32.") + "\nnodes:\n";
    for id in 1..=1000 {
        // .250 and .254 of the first 256 are the floating address and the gateway.
        let number = if id % 256 > 249 { id + 2000 } else { id };
        let (high, low) = (number / 256, number % 256);
        write!(
            text,
            "  - id: {number}\n    name: node{number}\n    match: {{mac: [\"52:54:00:{high:02x}:{low:02x}:00\"]}}\n    \
             bmc: {{address: 10.21.{high}.{low}}}\n    labels: {{rack: r{high}}}\n    links:\n      \
             port0: {{nic: {{mac: \"52:54:00:{high:02x}:{low:02x}:00\"}}}}\n      \
             port1: {{nic: {{mac: \"52:54:00:{high:02x}:{low:02x}:01\"}}}}\n"
        )
        .unwrap();
    }
    text
}

#[test]
fn a_thousand_nodes_are_checked_in_time() {
    let text = thousand_nodes();
    let best = (0..3).map(|_| time_of_one(&text)).min().unwrap();
    eprintln!("config: 1000 nodes, {} KiB, checked in {} ms", text.len() >> 10, best.as_millis());
    assert!(best < LIMIT, "{best:?} is over {LIMIT:?}");
}

/// What this thread has used of a processor.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn time_of_one(text: &str) -> Duration {
    let start = processor_time();
    let judged = config::judge(text);
    let took = processor_time().saturating_sub(start);
    assert_eq!(judged.problems, []);
    assert_eq!(judged.config.unwrap().nodes.len(), 1000);
    took
}

/// Each of 1,000 nodes has a problem, and all of them are told, in time as well.
#[test]
fn a_thousand_problems_are_told_in_time() {
    let text =
        thousand_nodes().replace("rack: r", "rack: \"r ").replace("}\n    links", "\"}\n    links");
    let start = processor_time();
    let judged = config::judge(&text);
    let took = processor_time().saturating_sub(start);
    assert_eq!(judged.problems.len(), 1000, "{:?}", judged.problems.first());
    eprintln!("config: 1000 problems told in {} ms", took.as_millis());
    assert!(took < LIMIT, "{took:?} is over {LIMIT:?}");
}
