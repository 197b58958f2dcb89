//! The adapters. Below here is the only code that touches the host; nothing here decides.

pub(crate) mod netlink; // links, addresses, routes, parameters of the network
