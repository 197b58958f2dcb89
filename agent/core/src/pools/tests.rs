//! Golden plans.

use super::*;

#[test]
fn golden_plans() {
    crate::golden::check::<Pools>("pools", 9);
}

#[test]
fn steps_are_commands() {
    let wish = Wish { size: 2, min_size: 1, domain: "rack".into() };
    let make = Step::Make { pool: "machines".into(), wish };
    assert_eq!(make.command()["rule"], "by-rack");
    assert_eq!(make.command()["size"], 2);
    let set = Step::Set { pool: "machines".into(), key: "size", value: "3".into() };
    assert_eq!(set.command()["val"], "3");
}
