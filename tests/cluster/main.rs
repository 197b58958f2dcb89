//! Whole clusters in containers. Needs root, the tools tree and an image; `ci/cluster` makes and runs all of it.

#![expect(clippy::print_stdout, reason = "figures are shown in the output of the tests")]

use std::time::Instant;

mod authority; // it is replaced while everything runs
mod clock; // one node's clock is wrong
mod closed; // what a stranger finds
mod disks; // what is on them, and power cuts while OSDs are made
mod harness; // the lab's own promises: what it makes, breaks, and leaves behind
mod machines; // they run, move, and are watched
mod operators; // a person who looks at nodes
mod quorum; // forming, joining, losing and finding each other
mod secrets; // bundles that are refused, and the one that is kept
mod services; // units killed, stopped, failing, flapping
mod turns; // changes of all coordinators, one after the other
mod wave; // upgrades of the whole cluster: who may, and who sees it

/// A figure, in the output of the test.
fn say(what: &str, since: Instant) {
    println!("{what}: {:.1} s", since.elapsed().as_secs_f64());
}
