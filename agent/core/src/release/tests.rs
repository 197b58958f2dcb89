use std::fmt::Write as _;

use super::*;
use crate::golden;

/// A package list's lines that tell formats.
const PACKAGES: &str = "\
ceph-mon 18.2.7+ds-1+deb13u1 amd64
libvirt-daemon 11.3.0-3+deb13u3 amd64
libvirt-daemon-system 11.3.0-3+deb13u3 amd64
postgresql-17 17.12-0+deb13u1 amd64
postgresql-client-17 17.12-0+deb13u1 amd64
qemu-system-x86 1:10.0.13+ds-0+deb13u1 amd64
zookeeper 3.9.3-1+deb13u1 all
";

/// plans/release: a release that runs and the next one, and what is said of them.
#[test]
fn golden_verdicts() {
    golden::check_cases("release", 8, "verdict.txt", |read| {
        let (running, next) = (read("running.yaml"), read("next.yaml"));
        match (Manifest::parse(&running), Manifest::parse(&next)) {
            (Ok(running), Ok(next)) => verdict(&running, &next),
            (running, next) => {
                let words = [running.err(), next.err()].map(|it| it.map(|it| format!("{it}\n")));
                words.into_iter().flatten().collect()
            }
        }
    });
}

fn verdict(running: &Manifest, next: &Manifest) -> String {
    let mut text = String::new();
    let mut say = |what: &str, judged: Result<(), Vec<Refusal>>| match judged {
        Ok(()) => writeln!(text, "{what}: yes").unwrap(),
        Err(refusals) => {
            for refusal in refusals {
                writeln!(text, "{what}: no: {refusal}").unwrap();
            }
        }
    };
    say("upgrade", running.may_follow(next));
    say("and back", next.may_return(running));
    let have = [running.root_hash.clone()];
    for (name, part) in [("uki", &next.uki), ("root", &next.root), ("verity", &next.verity)] {
        for way in cheapest(part, &have, None) {
            writeln!(text, "{name}: {way}").unwrap();
        }
    }
    for way in cheapest(&next.root, &[], None) {
        writeln!(text, "root from nothing: {way}").unwrap();
    }
    text
}

/// Chunks alone go on from what is there: with most of it there they are cheaper than what differs.
#[test]
fn what_is_there_already_counts() {
    let next = Manifest::parse(include_str!("../../plans/release/a_security_round/next.yaml"));
    let root = next.unwrap().root;
    let have = [root.deltas[0].base.root_hash.clone()];
    let first = |lacks| cheapest(&root, &have, lacks)[0];
    assert!(matches!(first(None), Way::Delta(_)));
    assert!(matches!(first(Some(40_000_000)), Way::Delta(_)));
    assert!(matches!(first(Some(4096)), Way::Chunks(_, Some(4096))));
}

#[test]
fn a_manifest_is_written_as_it_is_read() {
    let text = include_str!("../../plans/release/a_security_round/next.yaml");
    let manifest = Manifest::parse(text).unwrap();
    let written = serde_yaml::to_string(&manifest).unwrap();
    assert_eq!(Manifest::parse(&written).unwrap(), manifest);
}

#[test]
fn formats_follow_from_the_packages() {
    let text = serde_yaml::to_string(&formats(PACKAGES).unwrap()).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let text = lines.join(" ").replace(": reads:", ":\n reads:").replace("' ", "'\n");
    for line in [
        "ceph:\n reads: from: '16'\nto: '18'\nwrites: '18'",
        "libvirt:\n reads: from: '0'\nto: '11.3'\nwrites: '11.3'",
        "postgresql:\n reads: from: '17'\nto: '17'\nwrites: '17'",
        "qemu:\n reads: from: '0'\nto: '10.0'\nwrites: '10.0'",
        "trilith:\n reads: from: '1'\nto: '1'\nwrites: '1'",
        "zookeeper:\n reads: from: '3.5'\nto: '3.9'\nwrites: '3.9'",
    ] {
        assert!(text.contains(line), "{line}\n\n{text}");
    }
}

#[test]
fn two_majors_of_postgres_are_read_while_data_moves() {
    let both = format!("{PACKAGES}postgresql-18 18.1-1 amd64\n");
    let format = &formats(&both).unwrap()["postgresql"];
    let of = |text: &str| text.parse::<Version>().unwrap();
    assert_eq!((&format.reads.from, &format.writes), (&of("17"), &of("18")));
}

#[test]
fn a_package_list_that_tells_no_format_is_refused() {
    for (line, component) in [("ceph-mon", "ceph"), ("postgresql-17", "postgresql")] {
        let kept = PACKAGES.lines().filter(|it| !it.starts_with(line));
        let less = kept.collect::<Vec<_>>().join("\n");
        let error = formats(&less).unwrap_err();
        assert_eq!(error.component, component);
    }
    let odd = PACKAGES.replace("18.2.7+ds", "+ds");
    assert!(formats(&odd).unwrap_err().to_string().contains("no ceph-mon"));
}
