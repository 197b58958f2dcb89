//! Golden plans.

use super::*;

#[test]
fn golden_plans() {
    crate::golden::check::<ZooKeeper>("zookeeper", 44);
}
