//! The node agent `trilithd`.

mod reconcile; // the one loop for every subject
mod report; // status for people and machines
mod system; // the adapters: the only code that touches the host

fn main() {}
