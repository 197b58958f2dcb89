//! The adapter against libvirt's own test driver: the real library with its events, and machines in memory. Secrets,
//! which that driver has not, are proven in the ring of clusters.

use std::time::Duration;

use tokio::time::timeout;
use virt::domain::Domain;

use super::*;

/// A host of the test driver with one machine, `test`, that runs.
const URI: &str = "test:///default";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), what).await.expect("it never came")
}

/// What the adapter sees of machines.
async fn running(worker: &mut Worker) -> usize {
    let running = |connect: &Connect| {
        connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE).map(|all| all.len())
    };
    soon(worker.call(running)).await.unwrap()
}

#[tokio::test]
async fn a_machine_that_is_switched_off_is_heard_of() {
    let mut worker = Worker::new(URI.into());
    assert_eq!(running(&mut worker).await, 1);
    let news = Arc::clone(worker.news());
    // Behind the adapter's back: the driver's machines are the same for every connection of a process.
    let somebody = Connect::open(Some(URI)).unwrap();
    Domain::lookup_by_name(&somebody, "test").unwrap().destroy().unwrap();
    soon(news.notified()).await;
    assert_eq!(running(&mut worker).await, 0);
    Domain::lookup_by_name(&somebody, "test").unwrap().create().unwrap();
    soon(news.notified()).await;
    assert_eq!(running(&mut worker).await, 1);
}

#[tokio::test]
async fn an_error_is_libvirts_own() {
    let mut worker = Worker::new("test:///nowhere".into());
    let error = soon(worker.call(Connect::get_hostname)).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere"), "{error}");
}

#[tokio::test]
async fn nobody_waits_for_long_and_the_answer_that_comes_late_is_news() {
    let mut worker = Worker::new(URI.into());
    worker.limit = Duration::from_millis(50);
    let (go, stop) = std::sync::mpsc::channel::<()>();
    let hangs = move |_: &Connect| {
        let _ended = stop.recv();
        Ok(())
    };
    let error = worker.call(hangs).await.unwrap_err();
    assert_eq!(error.to_string(), "it has not answered for 0 s");
    let error = worker.call(Connect::get_hostname).await.unwrap_err();
    assert_eq!(error.to_string(), "it has not answered for 0 s");
    let news = Arc::clone(worker.news());
    drop(go);
    soon(news.notified()).await;
    worker.limit = Duration::from_secs(10);
    worker.call(Connect::get_hostname).await.unwrap();
}

#[tokio::test]
async fn a_call_that_panics_is_an_error_and_the_next_one_works() {
    let mut worker = Worker::new(URI.into());
    let panics = |_: &Connect| -> Result<(), Error> { panic!("the test fails here") };
    let error = soon(worker.call(panics)).await.unwrap_err();
    assert_eq!(error.to_string(), "the thread that calls libvirt has ended");
    soon(worker.call(Connect::get_hostname)).await.unwrap();
}
