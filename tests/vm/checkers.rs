//! Every file that a node of every sample gets, shown to the service that reads it, in the image's own package layer.
//! No machine is booted: a checker needs none.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use trilith_core::bundle::Bundle;
use trilith_core::node;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::command::run;
use trilith_tests::network::Network;

/// Each sample with a coordinator and with what else it has.
const NODES: [(&str, &[u16]); 4] = [
    ("homelab.yaml", &[1]),
    ("bonds.yaml", &[3]),
    ("eight.yaml", &[4, 8]),
    ("five.yaml", &[14, 300]),
];

#[test]
fn every_service_takes_its_files() -> Result<()> {
    for (sample, nodes) in NODES {
        let cluster = Cluster::sample(&artifact::cluster(sample))?;
        for id in nodes {
            // Each node in a network of its own: what one binds is not in the way of the next.
            let _network = Network::isolate()?;
            let bundle = Bundle::parse(&cluster.bundle(*id)?)?;
            let folder = tempfile::tempdir()?;
            lay(&bundle, folder.path())?;
            let said = run(Command::new("unshare")
                .args(["--mount", "bash", "-c", ENTER, "enter"])
                .args([artifact::layer()?.as_path(), folder.path()])
                .arg(include_str!("checkers.sh")))
            .with_context(|| format!("{sample}, node {id}"))?;
            ensure!(said.contains("all taken"), "{sample}, node {id}: {said}");
        }
    }
    Ok(())
}

/// The files, as the agent would write them.
fn lay(bundle: &Bundle, folder: &Path) -> Result<()> {
    let desired = node::services(&bundle.config, bundle.node, &bundle.secrets);
    let mut owners = String::new();
    for (path, file) in desired.context("the node is there")?.files {
        let place = folder.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap_or(folder))?;
        fs::write(place, &file.content)?;
        writeln!(owners, "{path} {:o} {}", file.mode, file.owner)?;
    }
    fs::write(folder.join("owners"), owners)?;
    Ok(())
}

/// `layer folder script`: runs the script in the layer with the folder's files laid over it, all in memory.
const ENTER: &str = r#"set -eu
mount -t tmpfs scratch /mnt
mkdir /mnt/upper /mnt/work /mnt/root
cp -r "$2/." /mnt/upper/
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" root /mnt/root
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
mkdir -p /mnt/root/tmp /mnt/root/run
mount -t tmpfs tmp /mnt/root/tmp
exec chroot /mnt/root /usr/bin/env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 bash -c "$3"
"#;
