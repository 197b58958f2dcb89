//! Golden plans.

use super::*;

#[test]
fn golden_plans() {
    crate::golden::check::<Frr>("frr", 8);
}
