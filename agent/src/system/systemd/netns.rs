//! Configurations checked by a service's real program. nft asks the kernel, hence the namespace.

use std::fs;

use trilith_core::services::{Checker, File, Marks};
use trilith_tests::network::Network;

use super::*;

fn write(path: &Path, content: &str) -> Step {
    let file = File::new(content).checked_by(Checker::Nft);
    Step::Write { path: path.display().to_string(), file, marks: Marks::new() }
}

#[tokio::test]
async fn a_configuration_that_is_refused_leaves_the_old_one() {
    let _network = Network::isolate().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nftables.conf");
    let good = "table inet a {\n}\n";
    let mut systemd = Systemd::new();
    systemd.carry_out(&write(&path, good)).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), good);

    let error = systemd.carry_out(&write(&path, "tabel inet a {\n}\n")).await.unwrap_err();
    let text = chain(&error).to_string();
    let refused = format!("the new {} is refused, the old one stays: nft says no", path.display());
    assert!(text.starts_with(&refused) && text.contains("tabel inet a"), "{text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), good);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}
