use super::*;

/// Each older than the next.
const RISING: &[&str] = &[
    "0~~",
    "0~~a",
    "0~",
    "0~rc1-1",
    "0",
    "0-1",
    "0a",
    "0+b1",
    "0.0",
    "1.0~beta1-1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1+deb13u1",
    "1.0-1.1",
    "1.0-2~bpo13+1",
    "1.0-2",
    "1.0-10",
    "1.0a-1",
    "1.0+dfsg-1",
    "1.0-1-1",
    "1.0.1-1",
    "3.5.1-1+deb13u1",
    "3.5.4-1~deb13u1",
    "6.12.57-1",
    "6.12.63-1",
    "18.2.7+ds-1+deb13u1",
    "257.9-1~deb13u1",
    "257.13-1~deb13u1",
    "18446744073709551616",
    "1:0.1-1",
    "1:10.0.2+ds-2+deb13u1",
    "1:10.0.13+ds-0+deb13u1",
    "2:0",
];

#[test]
fn each_is_older_than_the_next() {
    for (at, older) in RISING.iter().enumerate() {
        for (place, other) in RISING.iter().enumerate() {
            assert_eq!(compare(older, other), at.cmp(&place), "{older} and {other}");
        }
    }
    for (left, right) in [("1.0", "1.0-0"), ("0:1", "1"), ("1.01", "1.1"), ("1.0-", "1.0")] {
        assert_eq!(compare(left, right), Ordering::Equal, "{left} and {right}");
    }
}

/// dpkg says the same of every two neighbours, and of some that differ in little.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test asks dpkg")]
fn dpkg_says_the_same() {
    let says = |left: &str, word: &str, right: &str| {
        let asked = ["--compare-versions", left, word, right];
        std::process::Command::new("dpkg").args(asked).status().unwrap().success()
    };
    for pair in RISING.windows(2) {
        let &[older, newer] = pair else { panic!("windows of two") };
        assert!(says(older, "lt", newer), "dpkg does not take {older} for older than {newer}");
    }
    for (left, right) in [("1.0", "1.0-0"), ("0:1", "1"), ("1.01", "1.1")] {
        assert!(says(left, "eq", right), "{left} and {right}");
    }
}

const BEFORE: &str = "\
bash 5.2.37-2 amd64
libssl3t64 3.5.1-1+deb13u1 amd64
linux-image-6.12.57+deb13-amd64 6.12.57-1 amd64
openssh-server 1:10.0p1-7 amd64
nano 8.4-1 amd64
zlib1g 1:1.3.dfsg+really1.3.1-1+b1 amd64
";
const AFTER: &str = "\
bash 5.2.37-2+b1 amd64
htop 3.4.1-5 amd64
libssl3t64 3.5.4-1~deb13u1 amd64
linux-image-6.12.63+deb13-amd64 6.12.63-1 amd64
openssh-server 1:10.0p1-6 amd64
zlib1g 1:1.3.dfsg+really1.3.1-1+b1 amd64
";

#[test]
fn changes_with_what_matters_first() {
    let (before, after) = (Packages::parse(BEFORE).unwrap(), Packages::parse(AFTER).unwrap());
    let lines: Vec<String> = before.changes(&after).iter().map(Change::to_string).collect();
    assert_eq!(
        lines,
        [
            "libssl3t64 3.5.1-1+deb13u1 -> 3.5.4-1~deb13u1 [CVE-relevant: openssl]",
            "linux-image-6.12.57+deb13-amd64 6.12.57-1 removed [CVE-relevant: kernel]",
            "linux-image-6.12.63+deb13-amd64 6.12.63-1 added [CVE-relevant: kernel]",
            "openssh-server 1:10.0p1-7 -> 1:10.0p1-6 (older) [CVE-relevant: openssh]",
            "bash 5.2.37-2 -> 5.2.37-2+b1",
            "htop 3.4.1-5 added",
            "nano 8.4-1 removed",
        ]
    );
    assert_eq!(before.changes(&before), []);
    assert_eq!(before.len(), 6);
}

#[test]
fn a_line_that_is_no_packages_is_refused() {
    let error = Packages::parse("bash 5.2.37-2 amd64\n\nnano 8.4-1\n").unwrap_err();
    assert_eq!(error.line, 3);
    assert!(error.to_string().ends_with("and here is: nano 8.4-1"), "{error}");
    assert!(Packages::parse("").unwrap().is_empty());
}

#[test]
fn what_matters_is_known_by_the_names_of_the_packages() {
    for (name, what) in [
        ("linux-image-amd64", Some("kernel")),
        ("qemu-system-x86", Some("qemu")),
        ("libvirt0", Some("libvirt")),
        ("ceph-osd", Some("ceph")),
        ("postgresql-17", Some("postgresql")),
        ("frr", Some("frr")),
        ("udev", Some("systemd")),
        ("libpam-modules", None),
        ("linux-sysctl-defaults", None),
    ] {
        assert_eq!(relevance(name), what, "{name}");
    }
}
