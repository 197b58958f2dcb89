//! Agents that talk with each other, and strangers.

use std::os::fd::AsRawFd as _;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use trilith_core::peers::PORT;
use trilith_tests::network::Network;

use super::*;

/// Longer than anything here takes, also on a busy machine.
const HUNG: Duration = Duration::from_secs(30);

/// Runs a test in its own network.
fn lab(test: impl AsyncFnOnce()) {
    let _network = Network::isolate().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async { timeout(HUNG, test()).await.expect("it hung") }));
}

/// An agent, as far as its peers can tell.
struct Agent {
    report: Report,
    wish: watch::Sender<Option<Membership>>,
    views: watch::Receiver<Views>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Agent {
    fn start(number: u16, identity: Identity) -> Self {
        let report = Report::new();
        let name = format!("node{number}");
        let node = NodeIdentity { cluster: "lab".into(), id: number, name };
        report.set_bundle(Some(node), BundleStatus::default());
        report.subject("network").set(State::Converged);
        let (conversation, wish) = Talk::new();
        wish.send_replace(Some(membership(number, identity)));
        let views = conversation.views();
        let task = tokio::task::spawn_local(conversation.run(report.clone()));
        Self { report, wish, views, task }
    }

    /// Waits for a view of a node and returns it.
    async fn sees(&mut self, number: u16, wanted: impl Fn(&View) -> bool) -> View {
        let views = &mut self.views;
        let found = views.wait_for(|views| views.get(&id(number)).is_some_and(&wanted)).await;
        found.unwrap()[&id(number)].clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn reachable(view: &View) -> bool {
    matches!(view, View::Reachable { .. })
}

fn unreachable(view: &View) -> bool {
    matches!(view, View::Unreachable { .. })
}

#[test]
fn two_see_each_other_and_every_change() {
    lab(async || {
        let authority = Authority::new();
        let mut one = Agent::start(1, authority.node(1));
        let View::Unreachable { reason, .. } = one.sees(2, unreachable).await else { panic!() };
        assert!(reason.contains("refused"), "{reason}");
        let mut two = Agent::start(2, authority.node(2));
        one.sees(2, reachable).await;
        let View::Reachable { facts, .. } = two.sees(1, reachable).await else { panic!() };
        assert_eq!((facts.node, &*facts.cluster), (id(1), "lab"));
        // News come at once, not at the end of the long poll.
        let started = Instant::now();
        two.report.subject("network").set(State::Running);
        let state = |facts: &Facts| facts.subjects["network"].state.clone();
        one.sees(
            2,
            |view| matches!(view, View::Reachable { facts, .. } if state(facts) == "running"),
        )
        .await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        assert_eq!(one.report.subscribe().borrow().peers["node2"].silent, None);
    });
}

#[test]
fn one_that_goes_is_missed_at_once_and_found_again() {
    lab(async || {
        let authority = Authority::new();
        let mut one = Agent::start(1, authority.node(1));
        let two = Agent::start(2, authority.node(2));
        one.sees(2, reachable).await;
        let started = Instant::now();
        drop(two);
        one.sees(2, unreachable).await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        let _two = Agent::start(2, authority.node(2));
        one.sees(2, reachable).await;
    });
}

/// A bundle with other certificates takes effect without a restart, and the old ones no longer count.
#[test]
fn another_authority_takes_effect() {
    lab(async || {
        let (old, new) = (Authority::new(), Authority::new());
        let mut one = Agent::start(1, old.node(1));
        let two = Agent::start(2, old.node(2));
        one.sees(2, reachable).await;
        two.wish.send_replace(Some(membership(2, new.node(2))));
        let View::Unreachable { reason, .. } =
            one.sees(2, |view| matches!(view, View::Unreachable { reason, .. } if reason.contains("authority"))).await
        else {
            panic!()
        };
        assert_eq!(reason, "its certificate is not of this cluster's authority");
        one.wish.send_replace(Some(membership(1, new.node(1))));
        one.sees(2, reachable).await;
    });
}

/// A server that is a node of the same cluster, but not the one that is looked for.
#[test]
fn another_node_at_the_address_is_not_believed() {
    lab(async || {
        let authority = Authority::new();
        let mut one = Agent::start(1, authority.node(1));
        let _false = Agent::start(2, authority.node(3));
        let wrong = |view: &View| matches!(view, View::Unreachable { reason, .. } if reason == "its certificate is of another node");
        one.sees(2, wrong).await;
    });
}

/// What a stranger gets from the door, and what the door remembers of it.
async fn knock(door: &Rc<door::Door>, tls: Option<Arc<rustls::ClientConfig>>) -> (String, String) {
    door.refused.borrow_mut().clear();
    let stream = TcpStream::connect(("127.0.0.1", PORT)).await.unwrap();
    let mut answer = Vec::new();
    let outcome = match tls {
        None => ask(stream, &mut answer).await,
        Some(tls) => {
            let name = rustls::pki_types::ServerName::try_from("node1.lab").unwrap();
            match TlsConnector::from(tls).connect(name, stream).await {
                Ok(stream) => ask(stream, &mut answer).await,
                Err(error) => Err(error),
            }
        }
    };
    let heard = match outcome {
        Ok(()) => String::from_utf8_lossy(&answer).into_owned(),
        Err(error) => tls::explain(&error),
    };
    // The door logs its refusal when its end of the handshake fails.
    while door.refused.borrow().is_empty() && !heard.contains("200 OK") {
        tokio::task::yield_now().await;
    }
    (heard, door.refused.borrow().values().next().cloned().unwrap_or_default())
}

/// A node of the cluster that has come in and been answered.
async fn guest(
    authority: &Authority,
    stream: TcpStream,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let tls = tls::client(&authority.node(2)).unwrap();
    let name = rustls::pki_types::ServerName::try_from("node1.lab").unwrap();
    let mut guest = TlsConnector::from(tls).connect(name, stream).await.unwrap();
    again(&mut guest).await;
    guest
}

/// Asks once more over the same connection.
async fn again(guest: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) {
    guest.write_all(b"GET /v1/facts HTTP/1.1\r\nHost: node1.lab\r\n\r\n").await.unwrap();
    let mut answer = [0; 4096];
    let length = guest.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn who_is_here_stays_while_nobody_more_can_come() {
    lab(async || {
        let authority = Authority::new();
        let (_door, task) = open(&authority).await;
        let one = TcpStream::connect(("127.0.0.1", PORT)).await.unwrap();
        let mut one = guest(&authority, one).await;

        let late = TcpSocket::new_v4().unwrap();
        let (most, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let open = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
        setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(open).unwrap(), hard).unwrap();
        let late = late.connect(([127, 0, 0, 1], PORT).into()).await.unwrap();
        again(&mut one).await;
        setrlimit(Resource::RLIMIT_NOFILE, most, hard).unwrap();
        guest(&authority, late).await;
        again(&mut one).await;
        task.abort();
    });
}

async fn ask(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    answer: &mut Vec<u8>,
) -> std::io::Result<()> {
    stream
        .write_all(b"GET /v1/facts HTTP/1.1\r\nHost: node1.lab\r\nConnection: close\r\n\r\n")
        .await?;
    stream.read_to_end(answer).await.map(drop)
}

/// Opens the door of node 1.
async fn open(authority: &Authority) -> (Rc<door::Door>, JoinHandle<()>) {
    let tls = tls::server(&authority.node(1)).unwrap();
    let door = server::door(circle(1), tls, BTreeMap::new());
    let report = Report::new();
    let node = NodeIdentity { cluster: "lab".into(), id: 1, name: "node1".into() };
    report.set_bundle(Some(node), BundleStatus::default());
    let status = report.subscribe();
    let serving = Rc::clone(&door);
    let task = tokio::task::spawn_local(async move {
        let _keep = report;
        server::serve(serving, circle(1).me.addresses, status).await;
    });
    while TcpStream::connect(("127.0.0.1", PORT)).await.is_err() {
        tokio::task::yield_now().await;
    }
    (door, task)
}

#[test]
fn strangers_are_refused_with_a_reason() {
    lab(async || {
        let (authority, other) = (Authority::new(), Authority::new());
        let (door, task) = open(&authority).await;
        let client = |identity: &Identity| Some(tls::client(identity).unwrap());

        let (heard, logged) = knock(&door, None).await;
        assert!(!heard.contains("HTTP"), "plain text: {heard}");
        assert_eq!(logged, "it does not speak TLS");

        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let anonymous = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (heard, logged) = knock(&door, Some(Arc::new(anonymous))).await;
        assert_eq!(heard, "it refuses this node's certificate (CertificateRequired)");
        assert_eq!(logged, "it shows no certificate");

        // Of another cluster, although it names a node of this one and knows this one's authority.
        let mut foreign = other.node(2);
        foreign.authority = pem("CERTIFICATE", authority.0.der());
        let (heard, logged) = knock(&door, client(&foreign)).await;
        assert!(heard.starts_with("it refuses this node's certificate"), "{heard}");
        assert_eq!(logged, "its certificate is not of this cluster's authority");

        let (heard, logged) = knock(&door, client(&authority.node(9))).await;
        assert!(heard.starts_with("HTTP/1.1 403"), "{heard}");
        assert!(heard.ends_with("the certificate names no other node of this cluster"), "{heard}");
        assert_eq!(logged, "the certificate names no other node of this cluster");

        let (heard, logged) = knock(&door, client(&authority.node(2))).await;
        assert!(heard.starts_with("HTTP/1.1 200 OK"), "{heard}");
        assert_eq!(logged, "");
        task.abort();
    });
}

/// What somebody with this identity gets from the operators' door of node 1, asked for its status.
async fn look(identity: &Identity) -> String {
    let tls = TlsConnector::from(tls::client(identity).unwrap());
    let address = ("127.0.0.1", trilith_core::operators::PORT);
    let stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let name = rustls::pki_types::ServerName::try_from("node1.lab").unwrap();
    let mut stream = match tls.connect(name, stream).await {
        Ok(stream) => stream,
        Err(error) => return tls::explain(&error),
    };
    let mut answer = Vec::new();
    let request = b"GET /v1/status HTTP/1.1\r\nHost: node1.lab\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    match stream.read_to_end(&mut answer).await {
        Ok(_) => String::from_utf8_lossy(&answer).into_owned(),
        Err(error) => tls::explain(&error),
    }
}

/// An operator reads, and is no node; a node is no operator; strangers are neither.
#[test]
fn each_certificate_opens_its_own_door() {
    lab(async || {
        let (authority, other) = (Authority::new(), Authority::new());
        let one = Agent::start(1, authority.node(1));
        let operator = authority.operator("operator:alice");
        let seen = look(&operator).await;
        assert!(seen.starts_with("HTTP/1.1 200 OK") && seen.contains("\"network\""), "{seen}");
        let refused = look(&authority.node(2)).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
        assert!(refused.ends_with("the certificate is not an operator's"), "{refused}");
        let refused = look(&authority.operator("operator.lab")).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
        let mut stranger = other.operator("operator");
        stranger.authority = pem("CERTIFICATE", authority.0.der());
        let refused = look(&stranger).await;
        assert!(refused.starts_with("it refuses this node's certificate"), "{refused}");

        drop(one);
        let (door, task) = open(&authority).await;
        let (heard, logged) = knock(&door, Some(tls::client(&operator).unwrap())).await;
        assert!(heard.starts_with("HTTP/1.1 403"), "{heard}");
        assert_eq!(logged, "the certificate names no other node of this cluster");
        task.abort();
    });
}
