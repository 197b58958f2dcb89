use super::*;

async fn sh(script: &str) -> Result<String, ExecError> {
    run("sh", &["-c", script]).await
}

#[tokio::test]
async fn gives_the_output_of_a_program_in_a_clean_environment() {
    let said = sh("env | sort; pwd; cat").await.unwrap();
    let own: Vec<&str> =
        said.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("_=")).collect();
    assert_eq!(own, ["LC_ALL=C.UTF-8", "PATH=/usr/sbin:/usr/bin", "/"]);
}

#[tokio::test]
async fn an_error_has_the_status_and_the_last_lines() {
    let error = sh("echo out; for n in 1 2 3 4 5 6; do echo line $n >&2; done; exit 3").await;
    let expected =
        "sh says no (exit status: 3): line 2 | line 3 | line 4 | line 5 | line 6".to_owned();
    assert_eq!(error.unwrap_err().to_string(), expected);
    let error = sh("echo only output; exit 1").await.unwrap_err();
    assert_eq!(error.to_string(), "sh says no (exit status: 1): only output");
}

#[tokio::test]
async fn what_is_not_there_is_an_error_with_its_name() {
    let error = run("no-such-program", &["x"]).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot run no-such-program");
}

#[tokio::test]
async fn keeps_the_end_of_a_long_talk() {
    let said = sh("yes 0123456 | head -c 1000000; echo end").await.unwrap();
    assert!(said.len() == TAIL && said.ends_with("end\n"), "{} bytes", said.len());
}

/// The clock is paused: it jumps to the limit while the program sleeps.
#[tokio::test(start_paused = true)]
async fn a_program_that_hangs_is_killed() {
    let error = run("sleep", &["86413"]).await.unwrap_err();
    assert_eq!(error.to_string(), "sleep gave no answer within 20 s");
}

/// On the real clock: a paused one jumps as soon as nothing is ready, which may be before the program has spoken.
#[tokio::test]
async fn what_a_program_said_before_it_hung_is_told() {
    let error = sh("echo why >&2; exec sleep 86414").await.unwrap_err();
    assert_eq!(error.to_string(), "sh gave no answer within 20 s: why");
}
