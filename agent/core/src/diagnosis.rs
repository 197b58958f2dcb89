//! What a person asks a node for when something is wrong: its journal, its network, its disks. Shapes and texts; the
//! agent looks, and the operator's tool and the status screen show.

pub mod disks; // disks, what is on them, how they are
pub mod journal; // lines of the journal
pub mod net; // links, addresses, routes, routing sessions
mod table; // columns of text

/// What a support bundle holds beyond status, journal, network and disks: how the parts of a node's API are named.
pub const PARTS: &str = "/v1/parts";
