//! What a stranger finds: which ports are open from which network, what they say to plain text, and whether any
//! secret lies where it can be read.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_yaml::Value;
use trilith_core::config::NetworkName;
use trilith_tests::command::output;
use trilith_tests::lab::{Container, Cut, Lab, Spec};
use trilith_tests::quorums::{PATIENCE, all_formed, leader, start, subject};

/// Ports that neighbours on a core network may reach; on upstream SSH and the agent's for operators alone.
const UPSTREAM: [u16; 2] = [22, 29811];
const CLUSTER: [u16; 9] = [2281, 2888, 3300, 3888, 5432, 6800, 8008, 16514, 29810];
/// BGP is for nodes of the cluster alone, by their addresses.
const BGP: u16 = 179;
/// Ceph's daemons take the first free one of these.
const CEPH: std::ops::RangeInclusive<u16> = 6800..=7568;

#[test]
fn a_formed_cluster_is_closed_to_strangers() -> Result<()> {
    let lab = Lab::tied(&Spec::sample()?)?;
    start(&lab, &lab.names())?;
    all_formed(&lab)?;
    for node in lab.nodes() {
        only_known_ports_are_open(&lab, &node)?;
        no_secret_can_be_read(&lab, &node)?;
    }
    a_cut_of_one_network_is_no_way_in(&lab)
}

fn only_known_ports_are_open(lab: &Lab, node: &Container<'_>) -> Result<()> {
    let listening = node.shell("ss --no-header --listening --tcp --numeric")?;
    let mut ports: Vec<u16> = listening.lines().filter_map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    // What does not listen is not open either.
    for port in [22, BGP] {
        ensure!(ports.contains(&port), "{} does not listen on {port}: {listening}", node.name());
    }
    for network in &node.config()?.networks {
        let upstream = network.name == NetworkName::Upstream;
        let known = |port: &u16| {
            if upstream {
                UPSTREAM.contains(port)
            } else {
                CLUSTER.contains(port) || CEPH.contains(port)
            }
        };
        for address in network.addresses.iter().map(|own| own.address.addr()) {
            let open = lab.inside(|| Ok(open(address, &ports)))?;
            let (known, strange): (Vec<u16>, Vec<u16>) = open.into_iter().partition(known);
            ensure!(
                strange.is_empty(),
                "{}, {address}: open to a stranger: {strange:?}",
                node.name()
            );
            println!("{} {address}: open to neighbours: {known:?}", node.name());
            for port in known.into_iter().filter(|port| *port != 22) {
                let address = SocketAddr::new(address, port);
                lab.inside(|| turns_plain_text_away(address))
                    .with_context(|| format!("{}, {address}", node.name()))?;
            }
        }
    }
    Ok(())
}

fn port(line: &str) -> Option<u16> {
    line.split_whitespace().nth(3)?.rsplit(':').next()?.parse().ok()
}

/// Those of the ports that take a connection.
fn open(address: IpAddr, ports: &[u16]) -> Vec<u16> {
    let soon = Duration::from_millis(300);
    let connects =
        |port: &u16| TcpStream::connect_timeout(&SocketAddr::new(address, *port), soon).is_ok();
    ports.iter().copied().filter(connects).collect()
}

/// What clients say who know nothing of TLS: HTTP, ZooKeeper's words, a Postgres session without encryption.
const PLAIN: [&[u8]; 4] = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"srvr\n",
    b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0",
    b"\r\n\r\n",
];

fn turns_plain_text_away(address: SocketAddr) -> Result<()> {
    for words in PLAIN {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut answer = [0; 512];
        // Silence and a reset turn it away as well as an answer that says so.
        let size = stream.write_all(words).and_then(|()| stream.read(&mut answer)).unwrap_or(0);
        let answer = &answer[..size];
        ensure!(refuses(answer), "answers plain text: {:?}", String::from_utf8_lossy(answer));
    }
    Ok(())
}

/// Nothing, an alert of TLS, Ceph's banner (which is followed by cephx in secure mode or by nothing), libvirt's own
/// end of a TLS session, or Postgres' end of
/// a session before it asked for a password.
fn refuses(answer: &[u8]) -> bool {
    const ALERT: u8 = 0x15;
    let text = String::from_utf8_lossy(answer);
    answer.is_empty()
        || answer[0] == ALERT
        || text.starts_with("ceph v2")
        || (answer[0] == b'E' && text.contains("FATAL"))
        || text.starts_with("HTTP/1.1 400")
}

/// Searches for every secret of the node's bundle: in the journal, in arguments of processes, in all files that a
/// user without any right can read, and in what ZooKeeper stores.
fn no_secret_can_be_read(lab: &Lab, node: &Container<'_>) -> Result<()> {
    let folder = tempfile::TempDir::new()?;
    let patterns = folder.path().join("patterns");
    fs::write(&patterns, secrets_of(lab, node)?.join("\n"))?;

    let journal = folder.path().join("journal");
    fs::write(&journal, node.shell("journalctl --no-pager --output=export")?)?;
    let arguments = folder.path().join("arguments");
    fs::write(&arguments, node.shell("cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'")?)?;
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups \
        find /run /etc /var /tmp /srv /root /home -type f -readable 2>/dev/null || true";
    let root = node.root()?.display().to_string();
    let readable = node.shell(nobody)?;
    let readable = readable.lines().map(|path| format!("{root}{path}"));
    let stored =
        node.shell("find /var/lib/zookeeper -path '*version-2/*' -type f 2>/dev/null || true")?;
    let stored = stored.lines().map(|path| format!("{root}{path}"));
    let places = [&journal, &arguments].map(|path| path.display().to_string());
    // Where one lies on purpose it is found: otherwise the search would prove nothing.
    let known = format!("{root}/run/trilith/libvirt/serverkey.pem");
    ensure!(
        found_nowhere(&patterns, &[known]).is_err(),
        "{}: the search finds nothing",
        node.name()
    );
    let files: Vec<String> = places.into_iter().chain(readable).chain(stored).collect();
    found_nowhere(&patterns, &files).with_context(|| node.name().to_owned())
}

/// Every secret of a node's bundle.
pub(crate) fn secrets_of(lab: &Lab, node: &Container<'_>) -> Result<Vec<String>> {
    let bundle = lab.cluster().bundle(node.config()?.id.into())?;
    let bundle: Value = serde_yaml::from_str(&bundle)?;
    let mut secrets = Vec::new();
    collect(&bundle["secrets"], "", &mut secrets);
    ensure!(secrets.len() > 5, "{}: too few secrets to search for: {}", node.name(), secrets.len());
    Ok(secrets)
}

/// Every value that is a secret, as it would stand in a file: of a private key one line that only it has.
fn collect(value: &Value, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Mapping(map) => {
            map.iter()
                .for_each(|(key, value)| collect(value, key.as_str().unwrap_or_default(), found));
        }
        Value::String(text) if text.contains("PRIVATE KEY-----") => {
            // An OpenSSH key begins with its public half.
            let line = if text.contains("OPENSSH") { 4 } else { 1 };
            found.extend(text.lines().nth(line).map(str::to_owned));
        }
        Value::String(text)
            if !["authority", "certificate", "fsid", "libvirt_uuid"].contains(&name) =>
        {
            found.push(text.trim().to_owned());
        }
        _ => {}
    }
}

fn found_nowhere(patterns: &Path, files: &[String]) -> Result<()> {
    for some in files.chunks(500) {
        let mut grep = Command::new("grep");
        grep.args(["--text", "--fixed-strings", "--files-with-matches", "--no-messages", "--file"]);
        let found = output(grep.arg(patterns).args(some))?.stdout;
        ensure!(found.is_empty(), "secrets lie in {}", String::from_utf8_lossy(&found));
    }
    ensure!(!files.is_empty(), "nothing was searched");
    Ok(())
}

/// A node that has lost the cluster network must not turn to another one, where nothing protects it.
fn a_cut_of_one_network_is_no_way_in(lab: &Lab) -> Result<()> {
    let alone = leader(lab)?;
    lab.cut(Cut { node: alone.clone(), from: Vec::new(), network: Some("cluster".into()) })?;
    let node = lab.node(&alone)?;
    node.wait_status("it says that it is alone", PATIENCE, |status| {
        subject(status, "zookeeper").is_ok_and(|zookeeper| zookeeper.details.role.is_none())
    })?;
    let upstream =
        node.config()?.networks.iter().find(|network| network.name == NetworkName::Upstream);
    let Some(own) = upstream.and_then(|network| network.addresses.first()) else {
        bail!("{alone} has no address upstream");
    };
    let begin = Instant::now();
    let ports = [&CLUSTER[..], &[BGP]].concat();
    let open = lab.inside(|| Ok(open(own.address.addr(), &ports)))?;
    ensure!(open.is_empty(), "{alone}: open upstream after {:?}: {open:?}", begin.elapsed());
    Ok(())
}
