//! `trilith-rados USER COMMAND…`: puts commands to Ceph's monitors by librados, each as JSON, and writes a line of
//! JSON for each to its output, the answer or the refusal (`trilith_core::pools::answer::Reply`).
//!
//! A program of its own, because the agent must not carry what librados costs: linked and never called it makes a
//! process 14.4 MiB larger (18.2.7, resident), where the whole agent may have 30 MiB. This one has 27 MiB and a dozen
//! threads for 60 ms, and takes 31 ms of a processor; asked once in 30 s, by one node, that is 0.1 % of a core. The
//! commands are no secrets; the key is read from the keyring that ceph.conf names.

mod command; // one command, by librados itself

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use ceph::ceph::{Rados, connect_to_ceph};
use serde_json::Value;
use trilith_core::pools::answer::Reply;
use trilith_core::render::ceph::CONFIG;

/// Wrong arguments (sysexits.h).
const USAGE: u8 = 64;
/// Nobody to ask.
const UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let user = arguments.next();
    let commands: Result<Vec<Value>, _> =
        arguments.map(|text| serde_json::from_str(&text)).collect();
    let (Some(user), Ok(commands)) = (user, commands) else {
        complain("usage: trilith-rados USER COMMAND…, each command an object of JSON");
        return USAGE.into();
    };
    let cluster = match connect_to_ceph(&user, CONFIG) {
        Ok(cluster) => cluster,
        Err(error) => {
            complain(&format!("cannot connect to the monitors: {error}"));
            return UNAVAILABLE.into();
        }
    };
    let mut output = io::stdout().lock();
    for command in &commands {
        let reply = serde_json::to_string(&ask(&cluster, command)).unwrap_or_default();
        if writeln!(output, "{reply}").is_err() {
            return UNAVAILABLE.into();
        }
    }
    ExitCode::SUCCESS
}

fn ask(cluster: &Rados, command: &Value) -> Reply {
    match command::ask(cluster, &command.to_string()) {
        // What changes something answers with a sentence in another place, or with nothing.
        Ok(answer) => Reply::Answer(serde_json::from_slice(&answer).unwrap_or_default()),
        Err(refusal) => Reply::Refusal(refusal),
    }
}

fn complain(what: &str) {
    // Nobody listens if this fails, and the exit code says it as well.
    let _ = writeln!(io::stderr(), "{what}");
}
