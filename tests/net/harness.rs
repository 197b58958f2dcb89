//! The harness's own promises: isolation, jumbo frames, tags.

use anyhow::Result;
use trilith_tests::command::sh;
use trilith_tests::network::{Neighbour, Network};

#[test]
fn an_isolated_thread_sees_only_lo() -> Result<()> {
    let _network = Network::isolate()?;
    let links = sh("ip -brief link")?;
    assert_eq!(links.lines().count(), 1, "{links}");
    Ok(())
}

/// Two switches joined by a cable, a tagged port on each: one stays here, the others are the neighbour's.
#[test]
fn tagged_ports_carry_jumbo_frames_of_their_vlan_alone() -> Result<()> {
    let network = Network::isolate()?;
    let (near, far) = (network.switch("near")?, network.switch("far")?);
    sh("ip link add cable mtu 9216 type veth peer name elbac mtu 9216")?;
    sh("ip link set cable master near up")?;
    sh("ip link set elbac master far up")?;

    near.tagged_peer(20, &["10.0.20.1/24", "fd00:20::1/64"])?;
    far.tagged_peer(20, &[""; 0])?;
    far.tagged_peer(21, &[""; 0])?;
    let neighbour = Neighbour::new()?;
    for (port, addresses) in [
        ("far.20", ["10.0.20.2/24", "fd00:20::2/64"]),
        ("far.21", ["10.0.20.3/24", "fd00:20::3/64"]),
    ] {
        neighbour.take(port)?;
        neighbour.sh(&format!("ip link set {port} up"))?;
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            neighbour.sh(&format!("ip addr add {address} dev {port} {nodad}"))?;
        }
    }

    // 8972 and 8952 bytes fill 9000 with the headers of IPv4 and IPv6.
    sh("ping -c 1 -W 5 -M do -s 8972 10.0.20.2")?;
    sh("ping -c 1 -W 5 -M do -s 8952 fd00:20::2")?;
    // The neighbour would answer for its other port's address as well (one host), so look at who resolves:
    // on VLAN 21 nobody here is listening.
    let silent = neighbour.sh("ping -c 1 -W 1 -I far.21 10.0.20.1");
    assert!(silent.is_err(), "VLAN 21 reached VLAN 20");
    Ok(())
}
