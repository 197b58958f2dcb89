use std::fmt::Write as _;

use super::*;
use crate::golden;

/// plans/machines: a machine as libvirt describes it; what of it matters. `/mnt/nfs` is the same on all nodes.
#[test]
fn golden_machines() {
    golden::check_cases("machines", 8, "answer.txt", |read| {
        match Machine::read(&read("domain.xml"), |path| path.starts_with("/mnt/nfs/")) {
            Ok(machine) => words(&machine),
            Err(error) => format!("{error}\n"),
        }
    });
}

fn words(machine: &Machine) -> String {
    let Machine { name, memory, cpus, passthrough, stuck } = machine;
    let mut text = format!("{name}: {}, {cpus} CPUs\n", size(*memory));
    if *passthrough {
        writeln!(text, "with the node's own processor").unwrap();
    }
    match stuck {
        Some(why) => writeln!(text, "stays: {why}").unwrap(),
        None => writeln!(text, "moves").unwrap(),
    }
    text
}

const CAPABILITIES: &str = "<capabilities><host><uuid>u</uuid><cpu><arch>x86_64</arch><model>EPYC-Rome</model>\
    <vendor>AMD</vendor><microcode version='1'/><feature name='ht'/><feature name='svm'/></cpu></host></capabilities>";

#[test]
fn a_processor_is_what_it_can_do() {
    let own = processor(CAPABILITIES).unwrap();
    assert!(own.starts_with("AMD EPYC-Rome "), "{own}");
    let same = CAPABILITIES.replace("version='1'", "version='2'");
    let same = same.replace(
        "<feature name='ht'/><feature name='svm'/>",
        "<feature name='svm'/><feature name='ht'/>",
    );
    assert_eq!(processor(&same).as_ref(), Some(&own));
    let less = CAPABILITIES.replace("<feature name='svm'/>", "");
    assert_ne!(processor(&less), Some(own));
    assert_eq!(processor("<capabilities><host/></capabilities>"), None);
}

#[test]
fn sizes_for_people() {
    for (bytes, expected) in [
        (0, "0.0 MiB"),
        (16 << 20, "16.0 MiB"),
        ((1 << 30) - 1, "1023.9 MiB"),
        (1536 << 20, "1.5 GiB"),
        (1 << 40, "1024.0 GiB"),
    ] {
        assert_eq!(size(bytes), expected);
    }
}
