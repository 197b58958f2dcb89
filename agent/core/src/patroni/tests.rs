//! Golden plans.

use super::*;

#[test]
fn golden_plans() {
    crate::golden::check::<Patroni>("patroni", 20);
}
