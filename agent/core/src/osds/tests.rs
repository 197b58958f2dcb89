//! Golden plans.

use super::*;

#[test]
fn golden_plans() {
    crate::golden::check::<Osds>("osds", 12);
}
