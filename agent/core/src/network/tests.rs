//! Golden plans, and properties of plans in a small world.

mod converges; // properties in a small world

use super::Network;

#[test]
fn golden_plans() {
    crate::golden::check::<Network>("network", 25);
}
