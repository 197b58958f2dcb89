//! Whole clusters in containers. Needs root, the tools tree and an image; `ci/cluster` makes and runs all of it.

mod harness; // the lab's own promises: what it makes, breaks, and leaves behind
