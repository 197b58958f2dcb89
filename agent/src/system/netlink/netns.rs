//! The adapter on the real kernel: each test has a network namespace of its own, with a veth cable to a
//! second one. Foreign hands are played by `ip`, which is also an independent judge.

#![expect(clippy::print_stdout, reason = "tests print what they measured")]

mod stacks; // bonds and VLANs

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use trilith_core::network::{Desired, Network as Subject, Observed, Step};
use trilith_core::subject::{Plan, Subject as _};
use trilith_tests::command::sh;
use trilith_tests::network::{Neighbour, Network};

use super::arp::ArpError;
use super::{Netlink, NetlinkError};
use crate::reconcile::Host;

/// Longer than anything here takes, also on a busy machine: a test that comes here has hung.
const HUNG: Duration = Duration::from_secs(20);

/// One NIC, `eno1`, with a cable to the NIC `far` of a neighbour.
struct Lab {
    netlink: Netlink,
    far: Neighbour,
}

const MAC: &str = "52:54:00:00:00:01";
const FAR_MAC: &str = "52:54:00:00:00:99";

/// Runs a test in its own network.
fn lab(test: impl AsyncFnOnce(&mut Lab)) {
    empty_lab(plug, test);
}

fn empty_lab(cables: impl FnOnce(&Neighbour), test: impl AsyncFnOnce(&mut Lab)) {
    let _network = Network::isolate().unwrap();
    let far = Neighbour::new().unwrap();
    cables(&far);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut lab = Lab { netlink: Netlink::new(), far };
    runtime.block_on(async { timeout(HUNG * 6, test(&mut lab)).await.expect("the test hung") });
}

/// Puts the NIC in, its cable connected.
fn plug(far: &Neighbour) {
    sh(&format!("ip link add eno1 address {MAC} type veth peer name far address {FAR_MAC}"))
        .unwrap();
    far.take("far").unwrap();
    far.sh("ip link set far mtu 9000 up").unwrap();
}

impl Lab {
    async fn look(&mut self, desired: &Desired) -> (Observed, Plan<Step>) {
        let observed = self.netlink.observe(desired).await.unwrap();
        let plan = Subject::plan(desired, &observed);
        (observed, plan)
    }

    /// Applies plans until `done`, waiting for events where nothing is left to do. Gives all steps.
    async fn until(&mut self, desired: &Desired, done: impl Fn(&Plan<Step>) -> bool) -> Vec<Step> {
        timeout(HUNG, self.passes(desired, done)).await.expect("it did not settle")
    }

    async fn passes(&mut self, desired: &Desired, done: impl Fn(&Plan<Step>) -> bool) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let (_, plan) = self.look(desired).await;
            if plan.steps.is_empty() && done(&plan) {
                return steps;
            }
            if plan.steps.is_empty() {
                self.netlink.changed().await;
            }
            for step in plan.steps {
                match self.netlink.carry_out(&step).await {
                    Ok(()) => steps.push(step),
                    // A bond drops everything until its ports have found each other: the daemon asks again as well.
                    Err(NetlinkError::Arp(ArpError::Send { .. })) => break,
                    Err(error) => panic!("{step}: {error:?}"),
                }
            }
        }
    }

    async fn converge(&mut self, desired: &Desired) -> Vec<Step> {
        self.until(desired, Plan::is_converged).await
    }

    /// The reasons of the plan that is left when nothing can be done.
    async fn problems(&mut self, desired: &Desired, expected: &str) -> Vec<String> {
        let has =
            |plan: &Plan<Step>| plan.problems.iter().any(|one| one.to_string().contains(expected));
        self.until(desired, has).await;
        let (_, plan) = self.look(desired).await;
        plan.problems.iter().map(ToString::to_string).collect()
    }
}

fn desired(text: &str) -> Desired {
    serde_yaml::from_str(text).unwrap()
}

/// A NIC in a bridge with addresses of both families, default routes and parameters.
fn bridged() -> Desired {
    desired(
        r#"
links:
  uplink: {kind: !nic {mac: "52:54:00:00:00:01"}, mtu: 9000, master: br0}
  br0: {kind: bridge, mtu: 9000, addresses: [10.0.0.3/24, "fd00::3/64"]}
routes:
  - {destination: 0.0.0.0/0, gateway: 10.0.0.1, link: br0}
  - {destination: "::/0", gateway: "fd00::1", link: br0}
sysctls:
  net/ipv4/ip_forward: "1"
  net/ipv6/conf/all/forwarding: "1"
  net/ipv4/conf/all/rp_filter: "0"
link_sysctls: {ipv4/rp_filter: "2", ipv6/accept_ra: "0", ipv6/router_solicitation_delay: "0"}
"#,
    )
}

fn single(addresses: &str) -> Desired {
    desired(&format!("links: {{uplink: {{kind: !nic {{name: eno1}}, addresses: [{addresses}]}}}}"))
}

#[test]
fn a_bridge_with_addresses_and_routes_converges_and_then_nothing_is_left_to_do() {
    lab(async |lab| {
        let want = bridged();
        let started = Instant::now();
        lab.converge(&want).await;
        println!("converged in {:?}", started.elapsed());
        lab.far.sh("ip addr add 10.0.0.1/24 dev far").unwrap();
        lab.far.sh("ip addr add fd00::1/64 dev far nodad").unwrap();
        sh("ping -c 1 -W 5 -M do -s 8972 10.0.0.1").unwrap();
        sh("ping -c 1 -W 5 -M do -s 8952 fd00::1").unwrap();
        let routes =
            sh("ip route show default").unwrap() + &sh("ip -6 route show default").unwrap();
        assert!(routes.contains("via 10.0.0.1 dev br0 proto 116"), "{routes}");
        assert!(routes.contains("via fd00::1 dev br0 proto 116"), "{routes}");
        assert_eq!(sh("sysctl -n net.ipv4.conf.br0.rp_filter").unwrap().trim(), "2");
        assert_eq!(sh("sysctl -n net.ipv6.conf.eno1.disable_ipv6").unwrap().trim(), "1");
        let (_, plan) = lab.look(&want).await;
        assert_eq!(plan.steps, []);
    });
}

#[test]
fn a_restarted_agent_changes_nothing() {
    lab(async |lab| {
        let want = bridged();
        lab.converge(&want).await;
        lab.netlink = Netlink::new();
        assert_eq!(lab.converge(&want).await, []);
    });
}

#[test]
fn foreign_addresses_and_routes_stay_when_ours_go() {
    lab(async |lab| {
        lab.converge(&single("10.0.0.3/24, 10.1.0.3/24")).await;
        sh("ip addr add 192.168.7.7/24 dev eno1").unwrap();
        sh("ip route add 172.16.0.0/12 via 10.0.0.9 dev eno1").unwrap();
        let steps = lab.converge(&single("10.0.0.3/24")).await;
        assert_eq!(texts(&steps), ["remove 10.1.0.3/24 from eno1"]);
        let left = sh("ip -o addr show dev eno1").unwrap() + &sh("ip route").unwrap();
        assert!(left.contains("192.168.7.7/24") && left.contains("172.16.0.0/12"), "{left}");
        assert!(left.contains("10.0.0.3/24") && !left.contains("10.1.0.3"), "{left}");
    });
}

#[test]
fn what_is_deleted_behind_our_back_comes_back_within_a_second() {
    lab(async |lab| {
        let want = bridged();
        lab.converge(&want).await;
        for damage in [
            "ip addr del 10.0.0.3/24 dev br0",
            "ip route del default",
            "ip link set br0 mtu 1400",
            "ip link set eno1 nomaster",
            "sysctl -q net.ipv4.ip_forward=0",
        ] {
            sh(damage).unwrap();
            let started = Instant::now();
            lab.netlink.changed().await;
            let noticed = started.elapsed();
            let steps = lab.converge(&want).await;
            let repaired = started.elapsed();
            println!(
                "{damage}: noticed in {noticed:?}, repaired in {repaired:?}: {:?}",
                texts(&steps)
            );
            assert!(!steps.is_empty(), "{damage}");
            // One second is the promise; a busy machine may take a little longer.
            assert!(repaired < Duration::from_secs(3), "{damage}: {repaired:?}");
        }
    });
}

#[test]
fn an_ipv4_address_that_somebody_has_is_refused_until_they_give_it_up() {
    lab(async |lab| {
        lab.far.sh("ip addr add 10.0.0.3/24 dev far").unwrap();
        let want = single("10.0.0.3/24, 10.0.0.4/24");
        let problems = lab.problems(&want, "has it already").await;
        assert_eq!(problems, [format!("10.0.0.3 on eno1: {FAR_MAC} on the link has it already")]);
        assert!(!sh("ip -o addr show dev eno1").unwrap().contains("10.0.0.3"), "it was added");
        lab.far.sh("ip addr del 10.0.0.3/24 dev far").unwrap();
        // As if PROBE_LIFE had passed.
        lab.netlink.probes.clear();
        assert_eq!(lab.converge(&want).await.len(), 2);
    });
}

#[test]
fn a_link_that_cannot_ask_does_not_keep_others_from_it() {
    lab(async |lab| {
        sh("ip link set eno1 up").unwrap();
        let target =
            |link: &str| (link.to_owned().try_into().unwrap(), "10.0.0.3".parse().unwrap());
        let asked = lab.netlink.apply(&Step::Probe(vec![target("gone0"), target("eno1")])).await;
        let error = crate::reconcile::chain(&*asked.unwrap_err()).to_string();
        assert_eq!(error, "cannot ask by ARP: gone0 has no hardware address");
        let (observed, _) = lab.look(&Desired::default()).await;
        assert_eq!(observed.probes.len(), 1);
    });
}

#[test]
fn an_ipv6_address_that_somebody_has_is_refused() {
    lab(async |lab| {
        lab.far.sh("ip addr add fd00::3/64 dev far nodad").unwrap();
        let want = single("\"fd00::3/64\"");
        let problems = lab.problems(&want, "duplicate address detection").await;
        assert_eq!(
            problems,
            ["fd00::3 on eno1: somebody else on the link has it (duplicate address detection)"]
        );
    });
}

#[test]
fn a_nic_pulled_out_is_a_problem_and_heals_when_put_back() {
    lab(async |lab| {
        let want = bridged();
        lab.converge(&want).await;
        sh("ip link del eno1").unwrap();
        let problems = lab.problems(&want, "no NIC with MAC").await;
        assert_eq!(problems, [format!("uplink: no NIC with MAC {MAC}; seen: none")]);
        plug(&lab.far);
        let started = Instant::now();
        lab.converge(&want).await;
        println!("healed in {:?}", started.elapsed());
    });
}

#[test]
fn without_carrier_it_waits_and_goes_on_when_the_cable_is_plugged() {
    lab(async |lab| {
        lab.far.sh("ip link set far down").unwrap();
        let want = single("10.0.0.3/24, \"fd00::3/64\"");
        let problems = lab.problems(&want, "waits for carrier").await;
        assert_eq!(problems.len(), 3, "{problems:?}");
        lab.far.sh("ip link set far up").unwrap();
        lab.converge(&want).await;
    });
}

#[test]
fn mtus_change_without_dropping_an_address() {
    lab(async |lab| {
        let mut want = bridged();
        lab.converge(&want).await;
        // The kernel's own link-local address may still be tentative.
        let ours = "ip -o addr show dev br0 scope global";
        let before = sh(ours).unwrap();
        for mtu in [1500, 8000] {
            for link in want.links.values_mut() {
                link.mtu = mtu.try_into().unwrap();
            }
            let steps = lab.converge(&want).await;
            assert!(
                steps.iter().all(|step| matches!(step, Step::SetMtu { .. })),
                "{:?}",
                texts(&steps)
            );
            assert_eq!(sh(ours).unwrap(), before);
        }
    });
}

#[test]
fn a_network_may_have_a_smaller_mtu_than_its_link() {
    lab(async |lab| {
        let mut want = desired(
            r#"
links: {uplink: {kind: !nic {name: eno1}, mtu: 9000, addresses: [10.0.0.3/24, 10.2.0.3/24, "fd00::3/64"]}}
routes:
  - {destination: 10.0.0.0/24, link: uplink, metric: 128, mtu: 1500}
  - {destination: "fd00::/64", link: uplink, metric: 128, mtu: 1500}
  - {destination: 0.0.0.0/0, gateway: 10.0.0.1, link: uplink, mtu: 1500}
"#,
        );
        lab.converge(&want).await;
        for (to, mtu) in
            [("10.0.0.1", true), ("fd00::1", true), ("8.8.8.8", true), ("10.2.0.1", false)]
        {
            let route = sh(&format!("ip route get {to}")).unwrap();
            assert_eq!(route.contains("mtu 1500"), mtu, "{route}");
        }
        // Without the limit only the routes change.
        want.routes.clear();
        let steps = lab.converge(&want).await;
        assert!(
            steps.iter().all(|step| matches!(step, Step::RemoveRoute(_))),
            "{:?}",
            texts(&steps)
        );
        let route = sh("ip route get 10.0.0.1").unwrap();
        assert!(route.contains("dev eno1") && !route.contains("mtu"), "{route}");
    });
}

#[test]
fn a_gateway_may_be_link_local() {
    lab(async |lab| {
        let mut want = single("\"fd00::3/64\"");
        want.routes = bridged().routes.split_off(1);
        want.routes[0].link = "uplink".to_owned().try_into().unwrap();
        want.routes[0].gateway = Some("fe80::1".parse().unwrap());
        lab.converge(&want).await;
        let route = sh("ip -6 route show default").unwrap();
        assert!(route.contains("via fe80::1 dev eno1 proto 116"), "{route}");
    });
}

#[test]
fn an_address_moves_from_a_nic_to_a_bridge_and_back() {
    lab(async |lab| {
        lab.converge(&single("10.0.0.3/24")).await;
        let steps = lab.converge(&bridged()).await;
        assert!(!steps.iter().any(|step| matches!(step, Step::Probe(_))), "{:?}", texts(&steps));
        lab.converge(&single("10.0.0.3/24")).await;
        let links = sh("ip -o link").unwrap();
        assert!(!links.contains("br0"), "{links}");
        // The rest of what was ours goes too when nothing is wanted any more.
        lab.converge(&Desired::default()).await;
        let left =
            sh("ip -o -4 addr show dev eno1").unwrap() + &sh("ip -o link show eno1").unwrap();
        assert!(!left.contains("10.0.0.3") && left.contains("group default"), "{left}");
    });
}

#[test]
fn a_flood_of_changes_is_one_change() {
    lab(async |lab| {
        let want = single("10.0.0.3/24");
        lab.converge(&want).await;
        // More than the socket holds: the kernel says only that something was lost.
        let mut flood = String::new();
        for n in 0..4000 {
            writeln!(flood, "addr add 10.{}.{}.1/32 dev eno1", 100 + n / 250, n % 250).unwrap();
        }
        let file = format!("/tmp/trilith-flood-{}", std::process::id());
        std::fs::write(&file, flood).unwrap();
        sh(&format!("ip -batch {file}")).unwrap();
        std::fs::remove_file(&file).unwrap();
        lab.netlink.changed().await;
        assert_eq!(lab.converge(&want).await, []);
    });
}

#[test]
fn routes_of_others_do_not_wake_us_and_ours_do() {
    lab(async |lab| {
        let mut want = single("10.0.0.3/24");
        want.routes = bridged().routes;
        want.routes.truncate(1);
        want.routes[0].link = "uplink".to_owned().try_into().unwrap();
        lab.converge(&want).await;
        lab.look(&want).await;
        sh("ip route add 172.16.0.0/12 via 10.0.0.9 dev eno1 proto bgp").unwrap();
        let quiet = timeout(Duration::from_millis(200), lab.netlink.changed()).await;
        assert!(quiet.is_err(), "a foreign route woke the agent");
        sh("ip route replace default via 10.0.0.77 dev eno1 proto bgp").unwrap();
        lab.netlink.changed().await;
        let problems = lab.problems(&want, "not managed").await;
        assert_eq!(problems.len(), 1, "{problems:?}");
        sh("ip route del default").unwrap();
        lab.converge(&want).await;
    });
}

#[test]
fn a_refusal_carries_the_kernels_own_words() {
    lab(async |lab| {
        let want = single("10.0.0.3/24");
        lab.converge(&want).await;
        let step = Step::AddRoute(trilith_core::network::Hop {
            destination: "10.9.0.0/24".parse().unwrap(),
            gateway: Some("10.8.0.1".parse().unwrap()),
            link: "eno1".to_owned().try_into().unwrap(),
            metric: 0,
            mtu: None,
        });
        let error = lab.netlink.apply(&step).await.unwrap_err();
        assert_eq!(
            crate::reconcile::chain(&*error).to_string(),
            "the kernel refused (Nexthop has invalid gateway): Network is unreachable (os error 101)"
        );
        let gone = Step::SetUp("eno9".to_owned().try_into().unwrap());
        let error = lab.netlink.apply(&gone).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no link eno9");
    });
}

fn texts(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}
