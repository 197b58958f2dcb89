//! Whole programs in network namespaces, on the real kernel. Needs root; `ci/net` runs it.

mod harness; // the harness's own promises
