//! Golden plans, and names of units.

mod converges; // properties in a small world

use super::*;

#[test]
fn golden_plans() {
    crate::golden::check::<Services>("services", 50);
}

#[test]
fn what_is_owned_has_the_names_that_are_desired() {
    assert!(owned::is_unit(&SSH) && owned::is_file(AUTHORIZED_KEYS));
}

#[test]
fn unit_names() {
    for good in ["ssh.service", "ceph-osd@3.service", "dev-disk-by\\x2dlabel-a.device", "a.b.timer"]
    {
        UnitName::try_from(good.to_owned()).unwrap();
    }
    let long = format!("{}.service", "a".repeat(250));
    for bad in [
        "",
        "ssh",
        ".service",
        "ssh.serv",
        "a b.service",
        "a/b.service",
        "ä.service",
        long.as_str(),
    ] {
        UnitName::try_from(bad.to_owned()).unwrap_err();
    }
}

#[test]
fn a_plan_shows_no_content() {
    let file = File::secret("secret", Owner::new("frr", "frr"));
    let step = Step::Write { path: "/x".into(), file, marks: Marks::new() };
    assert_eq!(step.to_string(), "write /x (6 bytes, mode 0600, frr:frr)");
    assert!(!format!("{step:?}").contains("secret"));
}
