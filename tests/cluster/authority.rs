//! The cluster's authority is replaced while everything runs, in three steps.

use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use trilith_tests::lab::{Container, Lab};
use trilith_tests::quorums::{PATIENCE, address, all_formed, nodes};

use crate::say;
use crate::turns::{
    AUTHORITY, OWN, ZOOKEEPER, apart, has_the_new_files, logs_in_by, now, outages,
    password_of_replicas, shows_its_own,
};

/// Copies of certificate and key of before.
const OLD: &str = "/run/old";

/// The second and the third step; the first one, a new authority that is trusted and has signed nothing yet, came with
/// the other secrets. In between, a node that has the next bundle and those that have not work with each other; at
/// the end, what the old authority has signed is worth nothing.
pub(crate) fn the_authority_is_replaced(lab: &Lab) -> Result<()> {
    let (all, begin) = (nodes(lab)?, Instant::now());
    all[0].shell(&format!("for part in pem key; do cp -p {OWN}.$part {OLD}.$part; done"))?;
    lab.cluster().rotate("authority")?;
    renew(lab, &all[..1])?;
    all_formed(lab)?;
    for node in [&all[0], &all[all.len() - 1]] {
        admitted(lab, node, OWN)?;
    }
    say("one node has a certificate of the new authority, all as before", begin);
    renew(lab, &all[1..])?;
    lab.deliver()?;
    lab.cluster().rotate("authority")?;
    renew(lab, &all)?;
    lab.deliver()?;
    all_formed(lab)?;
    admitted(lab, &all[0], OWN)?;
    all[0].until("the old certificate is worth nothing", PATIENCE, || refused(lab, &all[0]))?;
    say("the authority replaced, all as before", begin);
    Ok(())
}

/// Gives these nodes their bundles, and waits until they work with them.
fn renew(lab: &Lab, nodes: &[Container<'_>]) -> Result<()> {
    let from = now()?;
    for node in nodes {
        lab.deliver_to(node)?;
    }
    for node in nodes {
        has_the_new_files(node, from)?;
        node.until("every service shows the new certificate", PATIENCE, || shows_its_own(node))?;
    }
    apart(&outages(nodes, from, &ZOOKEEPER)?)
}

/// Says something, as a client with the certificate in these files, and wants an answer.
const HELLO: &str = "import socket, ssl, sys
host, port, words, authority, files = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.check_hostname = False
context.load_cert_chain(files + '.pem', files + '.key')
stream = context.wrap_socket(socket.create_connection((host, int(port)), 5))
stream.sendall(words.encode().decode('unicode_escape').encode())
assert stream.recv(1)";

/// ZooKeeper, Patroni and the agent, and what each answers to.
const DOORS: [(u16, &str); 3] = [
    (2281, "srvr"),
    (8008, "GET / HTTP/1.0\\r\\n\\r\\n"),
    (29810, "GET /v1/facts HTTP/1.0\\r\\n\\r\\n"),
];

/// Whether a service of another node lets this one in by the certificate in these files.
fn lets_in(node: &Container<'_>, (host, door): (IpAddr, (u16, &str)), files: &str) -> Result<()> {
    let (port, words) = door;
    node.shell(&format!("python3 -c \"{HELLO}\" {host} {port} '{words}' {AUTHORITY} {files}"))
        .map(drop)
        .with_context(|| format!("{} to {host}, port {port}, with {files}", node.name()))
}

/// Every service of every coordinator lets this node in.
fn admitted(lab: &Lab, node: &Container<'_>, files: &str) -> Result<()> {
    for other in nodes(lab)? {
        for door in DOORS {
            let to = (address(&other)?, door);
            node.until("it is let in", PATIENCE, || lets_in(node, to, files))?;
        }
    }
    logs_in_by(lab, node, &password_of_replicas(node)?, files)
}

/// None of them lets it in by its old certificate.
fn refused(lab: &Lab, node: &Container<'_>) -> Result<()> {
    for other in nodes(lab)? {
        for door in DOORS {
            let to = (address(&other)?, door);
            ensure!(lets_in(node, to, OLD).is_err(), "{to:?} still lets it in");
        }
    }
    let login = logs_in_by(lab, node, &password_of_replicas(node)?, OLD);
    ensure!(login.is_err(), "Postgres still lets it in");
    Ok(())
}
