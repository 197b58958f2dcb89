use super::*;
use crate::names::NodeId;
use crate::secrets::sample;

const HOMELAB: &str = include_str!("../../../../tests/clusters/valid/homelab.yaml");

fn offer(name: &str, cluster: &str, node: u16) -> Offer {
    let node = NodeId::try_from(node).unwrap();
    let secrets = sample::secrets(&config::load(cluster).unwrap(), node);
    Offer { name: name.into(), text: sample::bundle(node, cluster, &secrets).unwrap() }
}

fn homelab() -> Vec<Offer> {
    [1, 2, 3].map(|node| offer(&format!("{node}.yaml"), HOMELAB, node)).into()
}

fn machine(mac: &str) -> Machine {
    let link =
        format!("{{name: eth0, kind: nic, mac: '02:00:00:00:00:01', permanent_mac: '{mac}'}}");
    let bond = "{name: bond0, kind: !other bond, mac: '52:54:00:00:03:00'}";
    let links = [link.as_str(), bond].map(|link| serde_yaml::from_str(link).unwrap());
    let firmware = Firmware {
        serial: Some(" SN-7 ".into()),
        uuid: Some("1B4E28BA-2FA1-11D2-883F-0016D3CCA427".into()),
        ..Firmware::default()
    };
    Machine::new(&firmware, &links, None)
}

#[test]
fn one_of_many_is_found_by_the_address_that_a_nic_came_with() {
    let offers = homelab();
    let chosen = choose(&machine("52:54:00:00:02:00"), &offers).unwrap();
    assert_eq!(chosen.offer.name, "2.yaml");
    assert_eq!(chosen.mark.to_string(), "by the MAC address 52:54:00:00:02:00");
}

#[test]
fn serial_and_uuid_serve_as_well() {
    let rule = "match: {mac: [\"52:54:00:00:03:00\"]}";
    for (other, words) in [
        ("match: {serial: SN-7}", "by the serial number SN-7"),
        (
            "match: {uuid: 1b4e28ba-2fa1-11d2-883f-0016d3cca427}",
            "by the UUID 1b4e28ba-2fa1-11d2-883f-0016d3cca427",
        ),
    ] {
        let cluster = HOMELAB.replace(rule, other);
        assert_ne!(cluster, HOMELAB);
        let offers = [1, 2, 3].map(|node| offer(&format!("{node}.yaml"), &cluster, node));
        let chosen = choose(&machine("52:54:00:00:00:99"), &offers).unwrap();
        assert_eq!((chosen.offer.name.as_str(), chosen.mark.to_string()), ("3.yaml", words.into()));
    }
}

#[test]
fn nobody_guesses() {
    let refusal =
        |mac: &str, offers: &[Offer]| choose(&machine(mac), offers).unwrap_err().to_string();
    let mut offers = homelab();
    assert_eq!(
        refusal("52:54:00:00:00:99", &offers),
        "none of the 3 bundles there is for this machine"
    );
    assert_eq!(
        refusal("52:54:00:00:00:99", &[]),
        "none of the 0 bundles there is for this machine"
    );
    // The same node twice, such as by a copy that somebody kept.
    offers.push(offer("1-old.yaml", HOMELAB, 1));
    assert_eq!(
        refusal("52:54:00:00:01:00", &offers),
        "1.yaml (by the MAC address 52:54:00:00:01:00) and 1-old.yaml (by the MAC address 52:54:00:00:01:00) are both \
         for this machine; write into each node's `match` what it alone has"
    );
    // A torn one is told of, and does not stand in the way of another.
    offers.truncate(3);
    offers[2].text.truncate(300);
    assert_eq!(
        refusal("52:54:00:00:03:00", &offers),
        "none of the 3 bundles there is for this machine (3.yaml cannot be read as bundles)"
    );
    assert!(choose(&machine("52:54:00:00:02:00"), &offers).is_ok());
}

/// Without `match` a bundle is for whoever gets it by hand, and for nobody who only finds it.
#[test]
fn a_node_without_a_match_is_nobody() {
    let cluster = HOMELAB.replace("    match: {mac: [\"52:54:00:00:01:00\"]}\n", "");
    let offers = [offer("1.yaml", &cluster, 1)];
    assert!(choose(&machine("52:54:00:00:01:00"), &offers).is_err());
}
