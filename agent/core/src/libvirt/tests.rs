//! Golden plans.

use super::*;

#[test]
fn golden_plans() {
    crate::golden::check::<Libvirt>("libvirt", 16);
}

#[test]
fn a_plan_that_is_printed_has_no_key_in_it() {
    let secret = StorageSecret { uuid: "u".into(), key: "swordfish".to_owned().into() };
    let step = Step::Fill(secret.clone());
    let printed = format!("{step} {step:?} {:?}", Desired { secret: Some(secret), reserve: None });
    assert!(!printed.contains("swordfish"), "{printed}");
}
