//! From any configuration, through any damage, to any other one: in a few passes, without a refused step, and
//! without touching what is foreign.

use std::collections::BTreeMap;

use ipnet::IpNet;
use proptest::prelude::*;

use crate::names::MacAddr;
use crate::network::desired::{
    Bond, BondMode, Desired, Kind, LacpRate, Link, NicSelector, Route, XmitHashPolicy,
};
use crate::network::world::{World, if_name};
use crate::network::{Network, ObservedKind};
use crate::subject::Subject;

/// The deepest stack takes about five.
const PASSES: usize = 8;

#[derive(Debug, Clone)]
struct Shape {
    bond: Option<Bond>,
    /// Whether the bond has its second port.
    both: bool,
    mtu: u32,
    /// VLANs with their IDs, on the bond or else on the first NIC.
    vlans: Vec<u16>,
    vlan_mtu: u32,
    /// The first VLAN goes into a bridge, or else the third NIC does.
    bridge: Option<bool>,
    host: u8,
    gateway: bool,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let mode =
        prop_oneof![Just(BondMode::Lacp), Just(BondMode::ActiveBackup), Just(BondMode::BalanceXor)];
    let rate = prop_oneof![Just(LacpRate::Slow), Just(LacpRate::Fast)];
    let policy = prop_oneof![Just(XmitHashPolicy::Layer2), Just(XmitHashPolicy::Layer34)];
    let bond =
        (mode, rate, policy, any::<Option<bool>>()).prop_map(|(mode, rate, policy, primary)| {
            let primary = primary.map(|first| if_name(if first { "p1" } else { "p2" }));
            let primary = primary.filter(|_| mode == BondMode::ActiveBackup);
            Bond { lacp_rate: rate, xmit_hash_policy: policy, primary, ..Bond::new(mode) }
        });
    let mtu = prop_oneof![Just(1500u32), Just(4000), Just(9000)];
    (
        (proptest::option::of(bond), any::<bool>(), mtu.clone(), mtu),
        (proptest::collection::vec(1u16..4, 0..3), any::<Option<bool>>()),
        (1u8..4, any::<bool>()),
    )
        .prop_map(|((bond, both, mtu, vlan_mtu), (vlans, bridge), (host, gateway))| Shape {
            bond,
            both,
            mtu,
            vlans,
            vlan_mtu: vlan_mtu.min(mtu),
            bridge,
            host,
            gateway,
        })
}

fn link(kind: Kind, mtu: u32, master: Option<&str>) -> Link {
    let mtu = mtu.try_into().unwrap();
    Link { kind, mtu, master: master.map(if_name), addresses: std::collections::BTreeSet::new() }
}

fn nic(n: u8) -> Kind {
    let mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, n]));
    Kind::Nic(NicSelector { mac, ..NicSelector::default() })
}

/// What a shape means. Every link that is no port gets an address of each family.
fn desired(shape: &Shape) -> Desired {
    let mut links = BTreeMap::new();
    let bond = shape.bond.is_some();
    let master = bond.then_some("bond0");
    links.insert(if_name("p1"), link(nic(1), shape.mtu, master));
    if shape.both || bond {
        links.insert(if_name("p2"), link(nic(2), shape.mtu, master.filter(|_| shape.both)));
    }
    if let Some(bond) = &shape.bond {
        let mut bond = bond.clone();
        bond.primary = bond.primary.filter(|primary| shape.both || primary.as_str() == "p1");
        links.insert(if_name("bond0"), link(Kind::Bond(bond), shape.mtu, None));
    }
    let parent = if_name(if bond { "bond0" } else { "p1" });
    let bridged = shape.bridge == Some(true);
    for (n, id) in (0u16..).zip(&shape.vlans) {
        let kind = Kind::Vlan { parent: parent.clone(), id: (id + 10 * n).try_into().unwrap() };
        let master = Some("br0").filter(|_| bridged && n == 0);
        links.insert(if_name(&format!("vlan{n}")), link(kind, shape.vlan_mtu, master));
    }
    if shape.bridge.is_some() {
        links.insert(if_name("br0"), link(Kind::Bridge, shape.vlan_mtu, None));
    }
    if shape.bridge == Some(false) {
        links.insert(if_name("p3"), link(nic(3), shape.vlan_mtu, Some("br0")));
    }
    address(&mut links, shape.host);
    Desired { routes: routes(&links, shape), links, ..Desired::default() }
}

fn address(links: &mut BTreeMap<crate::names::IfName, Link>, host: u8) {
    for (net, link) in links.values_mut().filter(|link| link.master.is_none()).enumerate() {
        link.addresses.insert(format!("10.{net}.0.{host}/24").parse().unwrap());
        link.addresses.insert(format!("fd00:{net}::{host}/64").parse().unwrap());
    }
}

fn routes(links: &BTreeMap<crate::names::IfName, Link>, shape: &Shape) -> Vec<Route> {
    let first = links.iter().find(|(_, link)| link.master.is_none()).filter(|_| shape.gateway);
    let to = |destination: &str, gateway: &str| Route {
        destination: destination.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        link: first.map(|(name, _)| name.clone()).unwrap(),
        metric: None,
        mtu: None,
    };
    if first.is_none() {
        return Vec::new();
    }
    vec![to("0.0.0.0/0", "10.0.0.254"), to("::/0", "fd00:0::ff")]
}

/// Plans and applies until nothing is left to do.
fn converge(world: &mut World, desired: &Desired) -> Result<(), TestCaseError> {
    for _ in 0..PASSES {
        let plan = Network::plan(desired, &world.observe(desired));
        if plan.steps.is_empty() {
            prop_assert!(plan.problems.is_empty(), "{:?}", plan.problems);
            return Ok(());
        }
        for step in &plan.steps {
            let done = world.apply(step);
            prop_assert!(done.is_ok(), "{step}: {done:?}\nof {:#?}", texts(&plan.steps));
        }
    }
    let plan = Network::plan(desired, &world.observe(desired));
    prop_assert!(false, "does not settle: {:#?}", texts(&plan.steps));
    Ok(())
}

fn texts(steps: &[crate::network::Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

/// Somebody's hand on the host.
fn damage(world: &mut World, kind: u8, which: usize) {
    let names: Vec<_> = world.links.keys().cloned().collect();
    let name = names[which % names.len()].clone();
    let address = world.addresses.get(which % world.addresses.len().max(1)).cloned();
    // What the kernel refuses does no damage.
    let _refused = match (kind, address) {
        (0, Some(seen)) => world.remove_address(&seen.link, seen.address),
        (1, _) => world.set_down(&name),
        (2, _) => world.set_mtu(&name, 1300),
        (3, _) => world.set_master(&name, None),
        (4, _) if world.links[&name].kind != ObservedKind::Nic => world.delete(&name),
        (5, _) => {
            world.routes.clear();
            Ok(())
        }
        _ => Ok(()),
    };
}

proptest! {
    #[test]
    fn plans_lead_from_any_state_to_any_desired_one(
        before in shapes(),
        after in shapes(),
        hands in proptest::collection::vec((0u8..6, any::<usize>()), 0..4),
    ) {
        let mut world = World::with_nics(&["eno1", "eno2", "eno3"]);
        converge(&mut world, &desired(&before))?;
        for (kind, which) in hands {
            damage(&mut world, kind, which);
        }
        converge(&mut world, &desired(&after))?;
        converge(&mut world, &desired(&before))?;
        converge(&mut world, &Desired::default())?;
        prop_assert_eq!(world.links.len(), 3);
        prop_assert!(world.addresses.is_empty() && world.routes.is_empty());
    }

    #[test]
    fn foreign_things_stay(before in shapes(), after in shapes()) {
        let mut world = World::with_nics(&["eno1", "eno2", "eno3", "eno4"]);
        converge(&mut world, &desired(&before))?;
        let foreign: IpNet = "192.168.7.7/24".parse().unwrap();
        for name in ["eno1", "eno4"] {
            world.add_address(&if_name(name), foreign).unwrap();
            world.addresses.last_mut().unwrap().protocol = 0;
        }
        let bridge = if_name("br0");
        let both = before.bridge.is_some() && after.bridge.is_some();
        if both {
            world.plug_tap("vnet0", &bridge);
        }
        converge(&mut world, &desired(&after))?;
        prop_assert_eq!(world.addresses.iter().filter(|seen| seen.protocol == 0).count(), 2);
        let tap = world.links.get(&if_name("vnet0"));
        prop_assert_eq!(tap.is_some_and(|tap| tap.master.as_ref() == Some(&bridge)), both);
        prop_assert!(!world.links[&if_name("eno4")].is_owned());
    }
}
