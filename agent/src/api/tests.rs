use std::path::PathBuf;

use trilith_core::status::{BundleStatus, NodeIdentity, Problem, State as Stand};

use super::*;
use crate::report::Report;

/// A socket path of its own for each test.
struct Socket(PathBuf);

impl Socket {
    fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("trilith-api-{test}-{}.sock", std::process::id())))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn bundle(report: &Report) {
    let node = NodeIdentity { cluster: "demo".into(), id: 3, name: "n3".into() };
    let bundle =
        BundleStatus { source: Some("/run/trilith/bundle.yaml".into()), ..BundleStatus::default() };
    report.set_bundle(Some(node), bundle);
}

#[tokio::test]
async fn the_socket_is_for_root_and_replaces_a_stale_one() {
    let socket = Socket::new("mode");
    drop(listen(&socket.0).unwrap());
    let _listener = listen(&socket.0).unwrap();
    assert_eq!(std::fs::metadata(&socket.0).unwrap().permissions().mode() & 0o777, 0o660);
}

#[tokio::test]
async fn the_client_reads_what_the_report_says() {
    let socket = Socket::new("status");
    let report = Report::new();
    tokio::spawn(serve(listen(&socket.0).unwrap(), report.subscribe(), Router::new()));
    bundle(&report);
    report.subject("network").set(Stand::Degraded {
        problems: vec![Problem { object: "eth7".into(), reason: "no such NIC".into() }],
    });
    let status = client::status(&socket.0, &Ask::default()).await.unwrap();
    assert_eq!(status, *report.subscribe().borrow());
}

#[tokio::test]
async fn a_request_can_wait_for_a_state_and_gets_the_status_when_the_time_is_over() {
    let socket = Socket::new("wait");
    let report = Report::new();
    tokio::spawn(serve(listen(&socket.0).unwrap(), report.subscribe(), Router::new()));
    let until = |timeout| Ask { wait: Some(Wait::Converged), timeout, subject: None };
    let over = client::status(&socket.0, &until(Some(0))).await.unwrap();
    assert!(!over.is_converged());

    let path = socket.0.clone();
    let waiting = tokio::spawn(async move { client::status(&path, &until(None)).await });
    bundle(&report);
    report.subject("network").set(Stand::Converged);
    let status = timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
    assert!(status.is_converged());
}

#[tokio::test]
async fn one_subject_is_shown_and_waited_for_as_if_there_were_no_others() {
    let socket = Socket::new("subject");
    let report = Report::new();
    drop(report.subject("services"));
    tokio::spawn(serve(listen(&socket.0).unwrap(), report.subscribe(), Router::new()));
    bundle(&report);
    report.subject("network").set(Stand::Converged);
    let ask = |subject: &str| Ask {
        wait: Some(Wait::Converged),
        timeout: None,
        subject: Some(subject.to_owned()),
    };
    let status = client::status(&socket.0, &ask("network")).await.unwrap();
    assert!(status.is_converged() && status.subjects.len() == 1);
    let error = client::status(&socket.0, &ask("nets")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the agent answers 404 Not Found: no subject nets; there are network, services"
    );
}

#[tokio::test]
async fn nobody_there_is_an_error_with_the_path() {
    let error = client::status(Path::new("/no/such.sock"), &Ask::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot reach the agent on /no/such.sock");
}

#[test]
fn metrics_are_a_view_of_the_status() {
    let report = Report::new();
    drop(report.subject("services"));
    bundle(&report);
    let mut network = report.subject("network");
    network.applied(&"a step");
    network.passed(Duration::from_micros(1_500_042), 7);
    network.set(Stand::Converged);
    let mut status = report.subscribe().borrow().clone();
    status.version = "1".into();
    status.bundle.certificate_ends = Some(1_950_000_000);
    for subject in status.subjects.values_mut() {
        subject.since = 1_800_000_000;
    }
    assert_eq!(metrics::render(&status), include_str!("tests/metrics.txt"));
}
