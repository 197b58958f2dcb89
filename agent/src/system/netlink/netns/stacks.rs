//! Bonds and VLANs, on a kernel that has them.

use std::time::{Duration, Instant};

use trilith_core::network::{Desired, Step};
use trilith_tests::command::sh;
use trilith_tests::network::Neighbour;

use super::{Lab, desired, empty_lab, texts};
use crate::system::netlink::Netlink;

/// Two cables, `eno1` to `far1` and `eno2` to `far2`.
fn plug(far: &Neighbour, n: u8) {
    sh(&format!(
        "ip link add eno{n} address 52:54:00:00:00:0{n} type veth peer name far{n} address 52:54:00:00:00:9{n}"
    ))
    .unwrap();
    far.take(&format!("far{n}")).unwrap();
}

/// Both cables, and at the far end a bond of this mode, or a bridge, with the VLANs 100, 200 and 300.
fn lab(far_end: &str, test: impl AsyncFnOnce(&mut Lab)) {
    let far = |far: &Neighbour| {
        plug(far, 1);
        plug(far, 2);
        far.sh(&format!("ip link add peer type {far_end}")).unwrap();
        for port in ["far1", "far2"] {
            far.sh(&format!("ip link set {port} mtu 9216")).unwrap();
            far.sh(&format!("ip link set {port} master peer")).unwrap();
            far.sh(&format!("ip link set {port} up")).unwrap();
        }
        far.sh("ip link set peer mtu 9216 up").unwrap();
        for (id, net) in [(100, 1), (200, 2), (300, 0)] {
            far.sh(&format!("ip link add link peer name v{id} type vlan id {id}")).unwrap();
            far.sh(&format!("ip link set v{id} mtu 9000 up")).unwrap();
            far.sh(&format!("ip addr add 10.{net}.0.1/24 dev v{id}")).unwrap();
            far.sh(&format!("ip addr add fd00:{net}::1/64 dev v{id} nodad")).unwrap();
        }
    };
    empty_lab(far, test);
}

fn stack(bond: &str) -> Desired {
    desired(&format!(
        r#"
links:
  p1: {{kind: !nic {{mac: "52:54:00:00:00:01"}}, master: bond0}}
  p2: {{kind: !nic {{mac: "52:54:00:00:00:02"}}, master: bond0}}
  bond0: {{kind: !bond {{{bond}}}, mtu: 9000}}
  cluster: {{kind: !vlan {{parent: bond0, id: 100}}, mtu: 9000, addresses: [10.1.0.3/24, "fd00:1::3/64"]}}
  storage: {{kind: !vlan {{parent: bond0, id: 200}}, mtu: 9000, addresses: [10.2.0.3/24, "fd00:2::3/64"]}}
  v300: {{kind: !vlan {{parent: bond0, id: 300}}, master: brup}}
  brup: {{kind: bridge, addresses: [10.0.0.3/24, "fd00::3/64"]}}
routes:
  - {{destination: 0.0.0.0/0, gateway: 10.0.0.1, link: brup}}
link_sysctls: {{ipv4/rp_filter: "2", ipv6/accept_ra: "0", ipv6/router_solicitation_delay: "0"}}
"#
    ))
}

const LACP: &str = "mode: '802.3ad', lacp_rate: fast, xmit_hash_policy: layer3+4";

fn ping_all() {
    for address in ["10.1.0.1", "10.2.0.1", "10.0.0.1", "fd00:1::1", "fd00:2::1", "fd00:0::1"] {
        ping(address);
    }
}

/// It answers, once the ports of a bond have found each other: the partner's LACP has a second between two tries.
fn ping(address: &str) {
    let give_up = Instant::now() + Duration::from_mins(1);
    // ping itself takes seconds before it says that nobody answers.
    while let Err(error) = sh(&format!("ping -c 1 -W 5 {address}")) {
        assert!(Instant::now() < give_up, "{error:#}");
    }
}

#[test]
#[ignore = "needs bonding and 8021q in the kernel"]
fn a_lacp_bond_with_vlans_and_a_bridge_converges_and_stays() {
    lab("bond mode 802.3ad miimon 100 lacp_rate fast", async |lab| {
        let want = stack(LACP);
        let steps = lab.converge(&want).await;
        println!("{}", texts(&steps).join("\n"));
        ping_all();
        let bond = sh("ip -d link show bond0").unwrap();
        for expected in
            ["mode 802.3ad", "lacp_rate fast", "xmit_hash_policy layer3+4", "miimon 100"]
        {
            assert!(bond.contains(expected), "{expected}: {bond}");
        }
        lab.netlink = Netlink::new();
        assert_eq!(lab.converge(&want).await, []);
        // The bond goes down for this, and what the kernel drops then is in the same plan again.
        let steps = lab.converge(&stack(&LACP.replace("fast", "slow"))).await;
        println!("{}", texts(&steps).join("\n"));
        ping_all();
        // Everything that was made goes again.
        lab.converge(&Desired::default()).await;
        let left = sh("ip -o link").unwrap();
        assert_eq!(left.lines().count(), 3, "{left}");
    });
}

#[test]
#[ignore = "needs bonding and 8021q in the kernel"]
fn bond_parameters_change_in_place() {
    lab("bond mode balance-xor miimon 100", async |lab| {
        for bond in [
            "mode: balance-xor, xmit_hash_policy: layer3+4",
            "mode: balance-xor, xmit_hash_policy: layer2+3",
            LACP,
            "mode: '802.3ad', lacp_rate: slow",
            "mode: active-backup, primary: p2",
            "mode: active-backup, primary: p1, miimon: 50",
            "mode: active-backup",
            "mode: balance-xor",
        ] {
            let want = stack(bond);
            let mut quiet = want.clone();
            // Without the partner's LACP there is no carrier to wait for.
            quiet.links.values_mut().for_each(|link| link.addresses.clear());
            quiet.routes.clear();
            let steps = lab.until(&quiet, |_| true).await;
            println!("{bond}: {}", texts(&steps).join("; "));
            assert!(!steps.iter().any(|step| matches!(step, Step::DeleteLink(_))));
            let (_, plan) = lab.look(&quiet).await;
            assert_eq!(plan.steps, [], "{bond}");
        }
    });
}

#[test]
#[ignore = "needs bonding and 8021q in the kernel"]
fn a_bond_loses_a_port_and_gets_it_back() {
    lab("bridge", async |lab| {
        let want = stack("mode: active-backup, primary: p2");
        lab.converge(&want).await;
        sh("ip link del eno2").unwrap();
        let problems = lab.problems(&want, "no NIC with MAC").await;
        assert_eq!(problems.len(), 1, "{problems:?}");
        ping_all();
        plug(&lab.far, 2);
        lab.far.sh("ip link set far2 mtu 9216 master peer up").unwrap();
        let steps = lab.converge(&want).await;
        println!("{}", texts(&steps).join("\n"));
        ping_all();
    });
}

#[test]
#[ignore = "needs bonding and 8021q in the kernel"]
fn vlans_come_go_and_change_and_mtus_move_through_the_stack() {
    lab("bridge", async |lab| {
        let mut want = stack("mode: active-backup");
        lab.converge(&want).await;
        let mut bigger = want.clone();
        for (name, link) in &mut bigger.links {
            if name.as_str() != "brup" && name.as_str() != "v300" {
                link.mtu = 9216.try_into().unwrap();
            }
        }
        let steps = lab.converge(&bigger).await;
        println!("grow: {}", texts(&steps).join("; "));
        assert!(
            steps.iter().all(|step| matches!(step, Step::SetMtu { .. })),
            "{:?}",
            texts(&steps)
        );
        let steps = lab.converge(&want).await;
        println!("shrink: {}", texts(&steps).join("; "));
        assert!(
            steps.iter().all(|step| matches!(step, Step::SetMtu { .. })),
            "{:?}",
            texts(&steps)
        );
        let storage = "storage".to_owned().try_into().unwrap();
        let mut link = want.links.remove(&storage).unwrap();
        let steps = lab.converge(&want).await;
        assert_eq!(texts(&steps), ["delete link storage"]);
        if let trilith_core::network::Kind::Vlan { id, .. } = &mut link.kind {
            *id = 201.try_into().unwrap();
        }
        want.links.insert(storage, link);
        println!("add: {}", texts(&lab.converge(&want).await).join("; "));
        ping_all_but_storage();
    });
}

fn ping_all_but_storage() {
    for address in ["10.1.0.1", "10.0.0.1", "fd00:1::1"] {
        ping(address);
    }
}

#[test]
#[ignore = "needs bonding and 8021q in the kernel"]
fn addresses_that_somebody_has_are_found_through_the_stack() {
    lab("bridge", async |lab| {
        lab.far.sh("ip addr add 10.1.0.3/24 dev v100").unwrap();
        lab.far.sh("ip addr add 10.0.0.3/24 dev v300").unwrap();
        lab.far.sh("ip addr add fd00:2::3/64 dev v200 nodad").unwrap();
        let problems = lab.problems(&stack("mode: active-backup"), "duplicate address").await;
        println!("{}", problems.join("\n"));
        let of = |what: &str| problems.iter().any(|problem| problem.starts_with(what));
        assert!(
            of("10.1.0.3 on cluster: 52:54:00:00:00:9") && of("10.0.0.3 on brup: 52:54:00:00:00:9")
        );
        assert!(of("fd00:2::3 on storage: somebody else"));
    });
}

#[test]
#[ignore = "needs bonding and 8021q in the kernel"]
fn a_bond_that_was_there_is_taken_over() {
    lab("bridge", async |lab| {
        sh("ip link add bond0 type bond").unwrap();
        let want = stack("mode: active-backup");
        let steps = lab.converge(&want).await;
        println!("{}", texts(&steps).join("\n"));
        ping_all();
    });
}
