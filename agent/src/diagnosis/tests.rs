use trilith_core::secrets::NodeSecrets;
use trilith_core::secrets::Secret;
use trilith_core::secrets::needs::Needs;

use super::*;

#[tokio::test]
async fn what_a_program_says_comes_line_by_line_and_without_secrets() {
    let mut secrets = NodeSecrets::blank(&Needs::default());
    secrets.bgp = Secret::from("hush".to_owned());
    let redactor = Redactor::new(&secrets);
    let talking = exec::listen("printf", &["one\\nhush %s\\n\\nlast", "now"]).unwrap();
    let body = streamed(talking, move |line| Some(redactor.clean(line).into_owned()));
    let all = axum::body::to_bytes(body, 1 << 10).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&all), "one\n[secret] now\n\nlast\n");
}

#[tokio::test]
async fn a_program_ends_when_nobody_listens_any_more() {
    let talking = exec::listen("sleep", &["1000"]).unwrap();
    let pid = talking.id().unwrap();
    let body = streamed(talking, |line| Some(line.to_owned()));
    drop(body);
    // Killed at once; the runtime collects it a moment later.
    let alive = || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok();
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    while alive() && !state().contains(") Z ") {
        tokio::task::yield_now().await;
    }
}
