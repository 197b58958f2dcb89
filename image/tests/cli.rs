//! The program as scripts and editors see it: exit codes, standard output, files.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends by a panic; the exemption covers only #[test] functions"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn trilith(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trilith")).args(args).output().unwrap()
}

fn cluster(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clusters").join(name);
    path.to_str().unwrap().to_owned()
}

fn code(args: &[&str]) -> i32 {
    trilith(args).status.code().unwrap()
}

#[test]
fn exit_codes_tell_what_happened() {
    let (good, bad) = (cluster("valid/homelab.yaml"), cluster("invalid/coordinators-even.yaml"));
    assert_eq!(code(&["config", "check", &good]), 0);
    assert_eq!(code(&["config", "check", &cluster("warnings/min-size-one.yaml")]), 0);
    assert_eq!(code(&["config", "check", &good, &bad]), 3);
    assert_eq!(code(&["config", "check", "/nonexistent"]), 1);
    assert_eq!(code(&["config", "check"]), 2);
    assert_eq!(code(&["config", "explain", &good, "--node", "3"]), 0);
    assert_eq!(code(&["config", "explain", &good, "--node", "4"]), 2);
    assert_eq!(code(&["config", "explain", &good, "--node", "0"]), 2);
    assert_eq!(code(&["config", "explain", &bad, "--node", "1"]), 3);
    assert_eq!(code(&["cluster", "bundle", &bad, "--node", "1"]), 3);
    assert_eq!(code(&["cluster", "bundle", &good, "--node", "4"]), 2);
    assert_eq!(code(&["config", "schema"]), 0);
}

#[test]
fn problems_come_as_json_for_editors() {
    let output =
        trilith(&["config", "check", "--json", &cluster("invalid/coordinators-even.yaml")]);
    let problems: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problem = &problems[0];
    assert_eq!(problem["severity"], "error");
    assert_eq!(problem["line"], 4);
    assert_eq!(problem["column"], 1);
    assert_eq!(problem["path"], "coordinators");
    assert!(problem["file"].as_str().unwrap().ends_with("coordinators-even.yaml"));
}

#[test]
fn no_colours_where_nobody_sees_them() {
    let output = trilith(&["config", "check", &cluster("invalid/coordinators-even.yaml")]);
    assert!(!output.stdout.contains(&0x1b));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.ends_with("coordinators-even.yaml: 1 error\n"), "{shown}");
}

#[test]
fn a_bundle_is_its_owners_alone() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bundle.yaml");
    let output = path.to_str().unwrap();
    let args =
        ["cluster", "bundle", &cluster("valid/homelab.yaml"), "--node", "2", "--output", output];
    assert_eq!(code(&args), 0);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(code(&args), 0, "it is written anew");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("version: 1\nnode: 2\ncluster: |\n"), "{text}");
}

#[test]
fn every_key_of_the_schema_is_described() {
    let schema: serde_json::Value =
        serde_json::from_slice(&trilith(&["config", "schema"]).stdout).unwrap();
    let definitions = schema["$defs"].as_object().unwrap();
    for definition in definitions.values().chain([&schema]) {
        assert!(definition["description"].is_string(), "{definition}");
        let properties = definition["properties"].as_object();
        for (key, property) in properties.into_iter().flatten() {
            assert!(property["description"].is_string(), "{key} of {definition}");
        }
        if properties.is_some() {
            assert_eq!(definition["additionalProperties"], false, "{definition}");
        }
    }
}
