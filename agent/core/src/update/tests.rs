//! Golden plans.

use super::*;

#[test]
fn golden_plans() {
    crate::golden::check::<Update>("update", 38);
}
