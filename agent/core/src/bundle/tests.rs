use super::*;
use crate::secrets::Secret;
use crate::secrets::sample::{self, Authority};

const HOMELAB: &str = include_str!("../../../../tests/clusters/valid/homelab.yaml");
const EIGHT: &str = include_str!("../../../../tests/clusters/valid/eight.yaml");

fn id(number: u16) -> NodeId {
    NodeId::try_from(number).unwrap()
}

fn secrets(cluster: &str, node: u16) -> NodeSecrets {
    sample::secrets(&config::load(cluster).unwrap(), id(node))
}

#[test]
fn what_is_written_is_read() {
    for (cluster, node) in [(HOMELAB, 3), (EIGHT, 1), (EIGHT, 2)] {
        let secrets = secrets(cluster, node);
        let text = sample::bundle(id(node), cluster, &secrets).unwrap();
        let bundle = Bundle::parse(&text).unwrap();
        assert_eq!(bundle.node, id(node));
        assert_eq!(bundle.config, config::load(cluster).unwrap());
        assert_eq!(bundle.secrets, secrets);
        let raw: RawBundle = serde_yaml::from_str(&text).unwrap();
        assert_eq!(raw.cluster, cluster, "verbatim");
    }
}

/// A bundle must hold the operator's file to the byte, whatever its line breaks are.
#[test]
fn line_breaks_stay() {
    let dos = HOMELAB.replace('\n', "\r\n");
    let text = sample::bundle(id(1), &dos, &secrets(HOMELAB, 1)).unwrap();
    let raw: RawBundle = serde_yaml::from_str(&text).unwrap();
    assert_eq!(raw.cluster, dos);
}

#[test]
fn what_does_not_fit_is_refused() {
    let refusal = |text: &str| Bundle::parse(text).unwrap_err().to_string();
    let good = secrets(HOMELAB, 1);
    assert!(matches!(sample::bundle(id(9), HOMELAB, &good), Err(BundleError::NoSuchNode(_))));
    assert!(matches!(sample::bundle(id(1), "version: 1", &good), Err(BundleError::BadConfig(_))));
    assert_eq!(
        refusal("nonsense"),
        "the bundle cannot be read: line 1, column 1 is not as it should be"
    );
    assert_eq!(
        refusal("{version: 1, node: 1, cluster: ''}"),
        "this program reads version 3 of the node bundle, not 1: make it with the `trilith` of the same release"
    );
    assert_eq!(
        refusal("{version: 3, node: 1, cluster: ''}"),
        "the bundle cannot be read: missing field `secrets`"
    );
    let text = sample::bundle(id(1), HOMELAB, &good).unwrap();
    assert_eq!(
        refusal(&sample::sign(&text.replace("version: 1\n", "version: 7\n"))),
        "the cluster file in the bundle has problems, such as: version: this program reads version 1 of the \
         cluster file, not 7"
    );
}

/// Whatever is changed, nothing that is changed is followed.
#[test]
fn a_changed_bundle_is_refused() {
    let text = sample::bundle(id(1), HOMELAB, &secrets(HOMELAB, 1)).unwrap();
    assert_eq!(sample::sign(&text).split_once('\n').unwrap().1, text.split_once('\n').unwrap().1);
    let (line, body) = text.split_once('\n').unwrap();
    let refusal = |text: &str| Bundle::parse(text).unwrap_err();
    for changed in [
        text.replace("node: 1\n", "node: 2\n"),
        text.replace("mtu: 1500", "mtu: 1400"),
        text.replace('\n', "\r\n"),
        format!("{text} "),
        format!("{text}# a comment\n"),
        text.trim_end().to_owned(),
        text.replacen("# signature: ", "# signature: AAAA", 1),
        // Signed by an authority that is not the one in it.
        bundle_sign_by_another(body),
    ] {
        assert!(matches!(refusal(&changed), BundleError::Changed), "{changed}");
    }
    for unsigned in [body.to_owned(), format!("\n{text}"), format!("# signature: ?\n{body}")] {
        assert!(matches!(refusal(&unsigned), BundleError::Unsigned), "{unsigned}");
    }
    assert!(Bundle::parse(&format!("{line}\n{body}")).is_ok());
}

fn bundle_sign_by_another(body: &str) -> String {
    sign(body, &Authority::new("home").key()).unwrap()
}

/// What is wrong is told; what it says is not.
#[test]
fn no_secret_is_in_a_refusal() {
    let text = sample::bundle(id(1), HOMELAB, &secrets(HOMELAB, 1)).unwrap();
    for (from, to) in [
        ("  bgp: secret-of-bgp", "  bgp: [secret-of-bgp]"),
        ("  bgp: secret-of-bgp", "  secret-of-bgp"),
        (
            "  zookeeper:\n    agent: secret-of-zookeeper-agent",
            "  zookeeper: secret-of-zookeeper-agent",
        ),
        ("node: 1", "node: secret-of-node"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = Bundle::parse(&text.replace(from, to)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret-of"), "{error:?}");
    }
    let bundle = Bundle::parse(&text).unwrap();
    assert!(!format!("{bundle:?}").contains("secret-of"));
}

/// The problems of a bundle whose secrets were changed.
fn judged(cluster: &str, node: u16, change: impl FnOnce(&mut NodeSecrets)) -> Vec<String> {
    let mut secrets = secrets(cluster, node);
    change(&mut secrets);
    match sample::bundle(id(node), cluster, &secrets) {
        Ok(_) => Vec::new(),
        Err(BundleError::BadSecrets(problems)) => {
            problems.iter().map(ToString::to_string).collect()
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_missing_secret_is_named() {
    let help = "make the bundle anew with `trilith cluster bundle`";
    let problems = judged(EIGHT, 1, |secrets| {
        secrets.postgres = None;
        secrets.zookeeper.patroni = None;
        secrets.ceph.keys.retain(|entity, _| entity != "mon." && entity != "mgr.r2n1");
        secrets.named.retain(|name, _| name.as_str() != "bgp-core");
    });
    assert_eq!(
        problems,
        [
            format!("secret ceph.keys.mgr.r2n1: is missing, and this node uses it: {help}"),
            format!("secret ceph.keys.mon.: is missing, and this node uses it: {help}"),
            format!("secret zookeeper.patroni: is missing, and this node is a coordinator: {help}"),
            format!("secret postgres: is missing, and this node is a coordinator: {help}"),
            format!("secret named.bgp-core: is missing, and the cluster file names it: {help}"),
        ]
    );
    let none = judged(EIGHT, 2, |secrets| assert!(secrets.postgres.is_none()));
    assert!(none.is_empty(), "a hypervisor needs less: {none:?}");
}

#[test]
fn malformed_secrets_are_refused() {
    let problems = judged(HOMELAB, 1, |secrets| {
        secrets.ceph.fsid = "the-fsid".into();
        secrets.ceph.keys.insert("client.admin".into(), Secret::from("AAAA".to_owned()));
        secrets.bgp = Secret::from("two\nlines".to_owned());
        secrets.zookeeper.agent = Secret::from(String::new());
        secrets.ssh_host_key = Secret::from("ssh-ed25519 AAAA".to_owned());
    });
    assert_eq!(
        problems,
        [
            "secret ceph.fsid: is not a UUID in lower case",
            "secret ceph.keys.client.admin: is not a key of Ceph",
            "secret zookeeper.agent: is empty",
            "secret bgp: is not one line of at most 1024 bytes",
            "secret ssh_host_key: is not an unencrypted ed25519 key of OpenSSH",
        ]
    );
}

#[test]
fn a_certificate_must_be_the_nodes_own_and_the_clusters() {
    let of_another_node = |secrets: &mut NodeSecrets| {
        secrets.identity = self::secrets(HOMELAB, 2).identity;
    };
    assert_eq!(
        judged(HOMELAB, 1, of_another_node),
        [
            "secret identity.certificate: is not this node's: its subject is not CN=hv1.home.example.net",
            "secret identity.certificate: is not this node's: it lacks 10.10.0.1, hv1, hv1.home.example.net",
        ]
    );
    let of_another_authority = |secrets: &mut NodeSecrets| {
        secrets.identity.authority = Authority::new("home").certificate;
    };
    assert_eq!(
        judged(HOMELAB, 1, of_another_authority),
        ["secret identity.certificate: is not signed by the cluster's authority"]
    );
    let of_another_key = |secrets: &mut NodeSecrets| {
        secrets.identity.key = self::secrets(HOMELAB, 1).identity.key;
    };
    assert_eq!(
        judged(HOMELAB, 1, of_another_key),
        ["secret identity.key: is not the key of the certificate"]
    );
    let certificate_as_authority = |secrets: &mut NodeSecrets| {
        secrets.identity.authority = secrets.identity.certificate.clone();
    };
    assert_eq!(
        judged(HOMELAB, 1, certificate_as_authority),
        [
            "secret identity.authority: holds a certificate that is not an authority's",
            "secret identity.certificate: is not signed by the cluster's authority",
        ]
    );
    let torn = |secrets: &mut NodeSecrets| secrets.identity.certificate.truncate(100);
    assert_eq!(
        judged(HOMELAB, 1, torn),
        ["secret identity.certificate: it is not PEM with a block \"CERTIFICATE\""]
    );
    let no_key = |secrets: &mut NodeSecrets| secrets.identity.key = Secret::from("?".to_owned());
    assert_eq!(
        judged(HOMELAB, 1, no_key),
        ["secret identity.key: it is not PEM with a block \"PRIVATE KEY\""]
    );
}

/// While the authority is being replaced there are two, and either may have signed.
#[test]
fn one_of_two_authorities_suffices() {
    for order in [[0, 1], [1, 0]] {
        let problems = judged(HOMELAB, 1, |secrets| {
            let other = Authority::new("home");
            let both = [secrets.identity.authority.clone(), other.certificate];
            secrets.identity.authority = order.map(|which: usize| both[which].as_str()).concat();
        });
        assert!(problems.is_empty(), "{problems:?}");
    }
}
