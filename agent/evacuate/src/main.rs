//! `trilith-evacuate`: moves the machines of the wish to other nodes, one after the other, while they run. Its unit starts
//! it when the wave has put a wish; it ends when that is taken back.
//!
//! A program of its own, without a network, because whoever may speak to libvirt may do everything on a node: the wave, which
//! speaks with the network, names machines of this node and nodes of this cluster here, and has not got this node's socket. (Its
//! certificate, which is the node's, would open libvirt on the other nodes.)

mod hypervisor; // libvirt on this node
mod run; // look, decide, do, over and over
mod tell; // what is said of it

use std::process::ExitCode;

fn main() -> ExitCode {
    match run::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The unit's standard error is the journal.
            eprintln!("trilith-evacuate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
