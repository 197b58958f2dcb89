//! The program as scripts and editors see it: exit codes, standard output, files.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends by a panic; the exemption covers only #[test] functions"
)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use age::secrecy::ExposeSecret as _;

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
fn a_rehearsal_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["1.0-1", "1.0-2"].map(|version| {
        let root = folder.path().join(format!("trilith_{version}.root"));
        fs::write(&root, "").unwrap();
        root.to_str().unwrap().to_owned()
    });
    let (good, bad) = (cluster("valid/homelab.yaml"), cluster("invalid/coordinators-even.yaml"));
    assert_eq!(code(&["rehearse", &bad, &old, &new]), 3);
    assert_eq!(code(&["rehearse", &good, &new, &old]), 2);
    assert_eq!(code(&["rehearse", &good, &new, &new]), 2);
    let releases = ["--releases", folder.path().to_str().unwrap()];
    let output = trilith(&[&["rehearse", &good, "1.0-1", "1.0-3"], &releases[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no release 1.0-3 in "), "{said}");
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

/// A folder with a copy of a sample, and secrets for it that a key file opens.
struct Secrets {
    folder: PathBuf,
    identity: String,
    recipient: String,
}

impl Secrets {
    fn new(name: &str, sample: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _old = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let identity = age::x25519::Identity::generate();
        let key = folder.join("identity");
        fs::write(&key, identity.to_string().expose_secret()).unwrap();
        fs::copy(cluster(sample), folder.join("cluster.yaml")).unwrap();
        let recipient = identity.to_public().to_string();
        let secrets = Self { identity: key.to_str().unwrap().to_owned(), folder, recipient };
        let (file, recipient) = (secrets.at("cluster.yaml"), secrets.recipient.clone());
        assert_eq!(code(&["cluster", "secrets", "init", &file, "--recipient", &recipient]), 0);
        secrets
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// `trilith cluster WORDS… cluster.yaml MORE… --identity …`
    fn run(&self, words: &[&str], more: &[&str]) -> Output {
        let file = self.at("cluster.yaml");
        let args = [&["cluster"], words, &[&file], more, &["--identity", &self.identity]].concat();
        trilith(&args)
    }

    fn bundle(&self, node: &str) -> Output {
        self.run(&["bundle"], &["--node", node])
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_bundle_is_its_owners_alone() {
    let secrets = Secrets::new("owner", "valid/homelab.yaml");
    let output = secrets.at("bundle.yaml");
    let write = || secrets.run(&["bundle"], &["--node", "2", "--output", &output]);
    assert_eq!(write().status.code(), Some(0));
    assert_eq!((mode(&output), mode(&secrets.at("secrets.age"))), (0o600, 0o600));
    let text = fs::read_to_string(&output).unwrap();
    let (signature, body) = text.split_once('\n').unwrap();
    assert!(signature.starts_with("# signature: "), "{signature}");
    assert!(body.starts_with("version: 3\nnode: 2\ncluster: |\n"), "{text}");
    let before = fs::read(secrets.at("secrets.age")).unwrap();
    assert_eq!(write().status.code(), Some(0), "it is written anew");
    let again = fs::read_to_string(&output).unwrap();
    assert_eq!(
        again.split_once('\n').unwrap().1,
        body,
        "the same but for the signature, which has a random part"
    );
    assert_eq!(fs::read(secrets.at("secrets.age")).unwrap(), before, "nothing was made");
}

/// A medium goes into any server, so that each node on it must be known by something.
#[test]
fn a_medium_is_refused_to_nodes_that_no_machine_is_recognised_as() {
    let secrets = Secrets::new("medium", "valid/homelab.yaml");
    let (file, output) = (secrets.at("cluster.yaml"), secrets.at("medium.raw"));
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("    match: {mac: [\"52:54:00:00:02:00\"]}\n", "")).unwrap();
    let usb = |more: &[&str]| {
        let identity = ["--identity", &secrets.identity];
        trilith(&[&["usb", &file, "--output", &output], more, &identity].concat())
    };
    let all = usb(&[]);
    assert_eq!(all.status.code(), Some(2));
    assert!(said(&all).contains("no machine would be recognised as hv2"), "{}", said(&all));
    assert_eq!(usb(&["--nodes", "1,9"]).status.code(), Some(2), "there is no node 9");
    let no_image = usb(&["--nodes", "1,3", "--image", &file]);
    assert_eq!(no_image.status.code(), Some(1));
    assert!(said(&no_image).contains("is no disk image of a release"), "{}", said(&no_image));
    assert!(!Path::new(&output).exists(), "nothing is written");
}

#[test]
fn a_named_secret_that_is_missing_is_asked_for_by_name() {
    let secrets = Secrets::new("named", "valid/eight.yaml");
    let file = secrets.at("cluster.yaml");
    let set = |name: &str, value: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_trilith"))
            .args(["cluster", "secrets", "set", &file, name, "--identity", &secrets.identity])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let refused = secrets.bundle("1");
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty());
    let how = |name| {
        format!(
            "trilith: missing: secret {name}; give it by `trilith cluster secrets set {file} {name}`\n"
        )
    };
    assert_eq!(said(&refused), how("bgp-core") + &how("bmc"));
    assert_eq!(secrets.bundle("2").status.code(), Some(0), "a hypervisor has no use for them");
    assert_eq!(set("bgp-core", "swordfish\n").status.code(), Some(0));
    assert_eq!(said(&secrets.bundle("1")), how("bmc"));
    assert_eq!(set("bmc", "two\nlines").status.code(), Some(1));
    let unknown = set("bgp-cor", "swordfish");
    assert_eq!(
        said(&unknown),
        format!("trilith: {file} names no secret bgp-cor; it names: bgp-core, bmc\n")
    );
    let list = secrets.run(&["secrets", "list"], &[]);
    assert_eq!(String::from_utf8(list.stdout).unwrap(), "bgp-core set\nbmc missing\n");
}

#[test]
fn a_secrets_file_is_never_overwritten_and_never_taken_for_another() {
    let secrets = Secrets::new("never", "valid/homelab.yaml");
    let (file, recipient) = (secrets.at("cluster.yaml"), secrets.recipient.as_str());
    let before = fs::read(secrets.at("secrets.age")).unwrap();
    assert_eq!(code(&["cluster", "secrets", "init", &file, "--recipient", recipient]), 1);
    let folder = secrets.at("");
    assert_eq!(
        code(&["cluster", "init", "attic", "--output", &folder, "--recipient", recipient]),
        1
    );
    assert_eq!(fs::read(secrets.at("secrets.age")).unwrap(), before);

    let text = fs::read_to_string(&file).unwrap().replace("name: home\n", "name: away\n");
    fs::write(&file, text).unwrap();
    let refused = secrets.bundle("1");
    assert_eq!(
        said(&refused),
        format!(
            "trilith: {file} is the cluster away, and the secrets file is of the cluster home\n"
        )
    );
    let stranger = Secrets::new("stranger", "valid/homelab.yaml");
    let foreign = ["--node", "1", "--secrets", &secrets.at("secrets.age")];
    let refused = stranger.run(&["bundle"], &foreign);
    assert!(said(&refused).contains("cannot open the secrets file"), "{}", said(&refused));
    assert!(refused.stdout.is_empty());
    assert_eq!(code(&["cluster", "bundle", &file, "--node", "1"]), 1, "no identity");
}

/// A passphrase opens it, and it is written anew with the same one.
#[test]
fn a_new_cluster_has_all_that_it_needs() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("init");
    let _old = fs::remove_dir_all(&folder);
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(&folder).unwrap();
    fs::write(at("passphrase"), "correct horse\n").unwrap();
    let passphrase = ["--passphrase-file", &at("passphrase")];
    let init = ["cluster", "init", "attic", "--output", &at("")];
    assert_eq!(code(&[&init[..], &passphrase].concat()), 0);
    assert_eq!(code(&[&init[..], &passphrase].concat()), 1, "not over what is there");
    let file = at("cluster.yaml");
    assert_eq!(code(&["config", "check", &file]), 0);
    let bundle = ["cluster", "bundle", &file, "--node", "3"];
    assert_eq!(code(&[&bundle[..], &passphrase].concat()), 0);
    let key = [&["cluster", "secrets", "show", &file, "ssh-admin"], &passphrase[..]].concat();
    let key = String::from_utf8(trilith(&key).stdout).unwrap();
    assert!(key.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));

    let rotate = [&["cluster", "rotate", &file, "bgp"], &passphrase[..]].concat();
    let before = fs::read(at("secrets.age")).unwrap();
    assert_eq!(code(&rotate), 0);
    assert_ne!(fs::read(at("secrets.age")).unwrap(), before);
    assert_eq!(code(&[&bundle[..], &passphrase].concat()), 0);
    let kept = trilith(&[&["cluster", "rotate", &file, "mon."], &passphrase[..]].concat());
    assert_eq!(kept.status.code(), Some(2));
    assert!(said(&kept).contains("--not-formed"), "{}", said(&kept));
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
