//! The node agent `trilithd`.

mod api; // the status over a unix socket, and the client for it
mod reconcile; // the one loop for every subject
mod report; // status for people and machines
mod system; // the adapters: the only code that touches the host

fn main() {}
