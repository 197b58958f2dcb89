//! Every node of every sample, and what follows for it.

use std::fs;
use std::path::{Path, PathBuf};

use super::network;
use crate::config::{Config, load};
use crate::network::world::{World, if_name};
use crate::network::{Desired, Kind, Network, Step};
use crate::subject::Subject;

#[expect(clippy::disallowed_methods, reason = "a test reads the samples")]
fn samples() -> Vec<(PathBuf, Config)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clusters/valid");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = files.filter(|file| file.extension().is_some_and(|kind| kind == "yaml"));
    yaml.map(|file| (file.clone(), load(&fs::read_to_string(&file).unwrap()).unwrap())).collect()
}

fn sample(name: &str) -> Config {
    samples().into_iter().find(|(file, _)| file.ends_with(name)).unwrap().1
}

fn desired(name: &str, node: u16) -> Desired {
    network(&sample(name), node.try_into().unwrap()).unwrap()
}

#[test]
fn every_node_of_every_sample_converges_in_a_small_world() {
    for (file, config) in samples() {
        for id in config.nodes.keys() {
            let passes = passes(&network(&config, *id).unwrap());
            assert!(passes < 8, "{} node {id}", file.display());
        }
    }
}

/// How many passes it takes until nothing is left to do, 8 if it never ends.
fn passes(desired: &Desired) -> usize {
    let mut world = World::for_nics_of(desired);
    (0..8)
        .find(|_| {
            let plan = Network::plan(desired, &world.observe(desired));
            plan.steps.iter().for_each(|step| world.apply(step).unwrap());
            assert!(!plan.steps.is_empty() || plan.problems.is_empty(), "{:?}", plan.problems);
            plan.steps.is_empty()
        })
        .unwrap_or(8)
}

#[test]
fn an_unknown_node_is_nothing_and_not_an_empty_network() {
    assert_eq!(network(&sample("homelab.yaml"), 99.try_into().unwrap()), None);
}

#[test]
fn collapsed_networks_configure_nothing_twice() {
    let homelab = desired("homelab.yaml", 2);
    let addresses: Vec<_> = homelab.links.values().flat_map(|link| &link.addresses).collect();
    assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.10.0.2/24"]);
    assert_eq!(homelab.routes.len(), 1);
}

#[test]
fn ports_name_their_bond_and_a_small_upstream_keeps_its_mtu() {
    let bonds = desired("bonds.yaml", 1);
    assert_eq!(bonds.links[&if_name("port0")].master, Some(if_name("bond0")));
    let Kind::Bond(bond) = &bonds.links[&if_name("bond0")].kind else { panic!("no bond") };
    assert_eq!(bond.primary, Some(if_name("port0")));
    assert_eq!(u32::from(bonds.links[&if_name("vlan100")].mtu), 1500);
    assert_eq!(bonds.routes.len(), 2);
}

/// Sysctls have one owner, and `all` does not undo what a link says (the kernel takes the larger).
#[test]
fn all_does_not_override_links() {
    let desired = desired("homelab.yaml", 1);
    for key in desired.link_sysctls.keys().filter_map(|key| key.strip_prefix("ipv4/")) {
        let all = desired.sysctls.get(&format!("net/ipv4/conf/all/{key}"));
        assert!(all.is_none_or(|value| value == "0"), "{key}");
    }
    let world = World::for_nics_of(&desired);
    let plan = Network::plan(&desired, &world.observe(&desired));
    let forwards = |step: &Step| step.to_string() == "set net/ipv4/ip_forward to 1";
    assert!(
        plan.steps.iter().position(forwards) <= Some(1),
        "forwarding resets others, so it is first"
    );
}
