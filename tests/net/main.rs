//! Whole programs in network namespaces, on the real kernel. Needs root; `ci/net` runs it.

mod agent; // trilithd from start to stop: bundle, reload, repair, restart
mod gate; // a boot on trial: proven, or over
mod harness; // the harness's own promises
mod netboot; // a server and a machine that is started by it: addresses, image, bundle
