//! What a cluster file of a thousand nodes, and as many agents that follow this one, cost an agent.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use trilith_core::bundle::Bundle;
use trilith_core::config::NetworkName;
use trilith_core::peers::PORT;
use trilith_tests::artifact;
use trilith_tests::lab::{Lab, Spec};
use trilith_tests::quorums::{coordinators, start, zookeeper_serves};

use crate::quorums;
use crate::table::Table;

const NODES: u16 = 1000;
/// Those that are switched on; what the others would ask of the first is asked from outside.
const ON: u16 = 3;

/// Three coordinators of a thousand nodes, with the agents of all others asking the first one.
pub(crate) fn figures(table: &mut Table) -> Result<()> {
    let spec = Spec { cluster: cluster()?, nodes: Some(ON.into()), ..Spec::sample()? };
    let lab = Lab::tied(&spec)?;
    start(&lab, &lab.names())?;
    zookeeper_serves(&lab, &coordinators(&lab)?)?;
    let followers = follow(&lab)?;
    let costs = quorums::measure(&lab)?;
    let resident = costs.iter().map(|cost| cost.idle.resident).fold(0.0, f64::max);
    let cpu = costs.iter().map(|cost| cost.idle.cpu).fold(0.0, f64::max);
    let what = format!("trilithd of {NODES} nodes, {} agents follow it", followers.len());
    table.add(&format!("{what}, resident"), &format!("{resident:.1} MiB"), "");
    table.add("  CPU of a core", &format!("{cpu:.3} %"), "");
    for (name, subject) in lab.node("n1")?.status()?.subjects {
        let milliseconds =
            format!("{}.{:03} ms", subject.last_pass_us / 1000, subject.last_pass_us % 1000);
        table.add(&format!("  one pass of {name}"), &milliseconds, "");
    }
    Ok(())
}

/// An agent's connection, with a question that is answered when there is news.
type Follower = StreamOwned<ClientConnection, TcpStream>;

/// One connection for each node that is not on, as its agent would hold it.
fn follow(lab: &Lab) -> Result<Vec<Follower>> {
    let bundle = lab.cluster().bundle(ON + 1)?;
    let config = client(&bundle)?;
    let first = lab.cluster().node(1)?;
    let network = first.networks.iter().find(|network| network.name == NetworkName::Cluster);
    let address = network.and_then(|network| network.addresses.first()).context("no address")?;
    let address = SocketAddr::new(address.address.addr(), PORT);
    let host = format!("{}.{}", first.name, lab.cluster().config().domain);
    let name = ServerName::try_from(host.clone())?;
    lab.inside(|| {
        (ON..NODES)
            .map(|_| {
                let tls = ClientConnection::new(Arc::clone(&config), name.clone())?;
                let mut follower = StreamOwned::new(tls, TcpStream::connect(address)?);
                let tag = ask(&mut follower, &host, "")?;
                let wait = format!("If-None-Match: {tag}\r\nPrefer: wait=300\r\n");
                write!(follower, "GET /v1/facts HTTP/1.1\r\nHost: {host}\r\n{wait}\r\n")?;
                follower.flush()?;
                Ok(follower)
            })
            .collect()
    })
}

/// Asks for the facts and returns their tag.
fn ask(follower: &mut Follower, host: &str, headers: &str) -> Result<String> {
    write!(follower, "GET /v1/facts HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")?;
    follower.flush()?;
    let mut answer = BufReader::new(follower);
    let (mut tag, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        ensure!(answer.read_line(&mut line)? > 0, "the answer breaks off");
        match line.trim_end().split_once(": ") {
            Some(("etag", value)) => tag = Some(value.to_owned()),
            Some(("content-length", value)) => length = value.parse()?,
            _ if line == "\r\n" => break,
            _ => {}
        }
    }
    std::io::copy(&mut std::io::Read::take(answer, length), &mut std::io::sink())?;
    tag.context("no facts")
}

/// Shows the certificate of the node whose bundle it is.
fn client(bundle: &str) -> Result<Arc<ClientConfig>> {
    let bundle = Bundle::parse(bundle).map_err(|error| anyhow!("{error}"))?;
    let identity = &bundle.secrets.identity;
    let mut authority = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(identity.authority.as_bytes()) {
        authority.add(certificate?)?;
    }
    let certificates = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.reveal().as_bytes())?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(authority)
        .with_client_auth_cert(certificates.collect::<Result<_, _>>()?, key)?;
    Ok(Arc::new(config))
}

/// The lab's cluster file, with wider subnets and a thousand nodes.
fn cluster() -> Result<PathBuf> {
    let mut text = String::from(
        "version: 1\n\
         cluster: {name: thousand, domain: thousand.example.net}\n\
         coordinators: [1, 2, 3]\n\
         time: {servers: [10.30.15.254]}\n\
         links: {wan: {mtu: 1500}, core: {mtu: 9000}}\n\
         networks:\n  \
           upstream: {link: wan, ipv4: {subnet: 10.30.0.0/20, gateway: 10.30.15.254}}\n  \
           cluster: {link: core, ipv4: {subnet: 10.31.0.0/20}}\n  \
           storage: {same_as: cluster}\n\
         nodes:\n",
    );
    for id in 1..=NODES {
        let [high, low] = id.to_be_bytes();
        let mac =
            |nic: u8| format!("{{nic: {{mac: \"52:54:00:{high:02x}:{low:02x}:{nic:02x}\"}}}}");
        writeln!(
            text,
            "  - {{id: {id}, name: n{id}, links: {{wan: {}, core: {}}}}}",
            mac(0),
            mac(1)
        )?;
    }
    let folder = artifact::target().join("bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join("thousand.yaml");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
