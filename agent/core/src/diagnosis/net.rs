//! The network as the kernel and FRR show it.

use serde::{Deserialize, Serialize};

use super::table;
use crate::frr;
use crate::network::{ObservedAddress, ObservedKind, ObservedLink, ObservedRoute};

/// The node's network at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net {
    /// Every link but the loopback.
    pub links: Vec<ObservedLink>,
    /// Their addresses.
    pub addresses: Vec<ObservedAddress>,
    /// Unicast routes of the main table.
    pub routes: Vec<ObservedRoute>,
    /// The routing sessions, or why nobody tells of any.
    pub bgp: frr::Observed,
}

impl Net {
    /// For people: links with their addresses, then routes, then sessions.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.links();
        lines.extend([String::new(), "routes".to_owned()]);
        lines.extend(self.routes());
        lines.extend([String::new(), "routing sessions".to_owned()]);
        lines.extend(self.sessions());
        lines
    }

    fn links(&self) -> Vec<String> {
        let row = |link: &ObservedLink| {
            let addresses = self.addresses.iter().filter(|address| address.link == link.name);
            let addresses: Vec<String> = addresses.map(address).collect();
            [
                link.name.to_string(),
                state(link).to_owned(),
                format!("mtu {}", link.mtu),
                link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
                kind(link),
                addresses.join(" "),
            ]
        };
        table::lines(&self.links.iter().map(row).collect::<Vec<_>>())
    }

    fn routes(&self) -> Vec<String> {
        let row = |route: &ObservedRoute| {
            let via = route.gateway.map_or_else(|| "on link".into(), |via| format!("via {via}"));
            let metric = format!("metric {}", route.metric);
            [format!("  {}", route.destination), via, route.link.to_string(), metric]
        };
        table::lines(&self.routes.iter().map(row).collect::<Vec<_>>())
    }

    fn sessions(&self) -> Vec<String> {
        match &self.bgp {
            frr::Observed::Away(reason) => vec![format!("  unknown: {reason}")],
            frr::Observed::Sessions(sessions) if sessions.is_empty() => vec!["  none".into()],
            frr::Observed::Sessions(sessions) => {
                let rows = sessions.iter();
                let rows = rows.map(|(peer, session)| [format!("  {peer}"), session.state.clone()]);
                table::lines(&rows.collect::<Vec<_>>())
            }
        }
    }
}

fn state(link: &ObservedLink) -> &'static str {
    match (link.up, link.carrier) {
        (false, _) => "off",
        (true, false) => "no carrier",
        (true, true) => "up",
    }
}

fn kind(link: &ObservedLink) -> String {
    let kind = match &link.kind {
        ObservedKind::Nic => link.driver.clone().unwrap_or_else(|| "nic".into()),
        ObservedKind::Bond(_) => "bond".into(),
        ObservedKind::Vlan { parent, id } => match parent {
            Some(parent) => format!("vlan {id} on {parent}"),
            None => format!("vlan {id}"),
        },
        ObservedKind::Bridge => "bridge".into(),
        ObservedKind::Other(kind) => kind.clone(),
    };
    let master = link.master.as_ref().map(|master| format!(", port of {master}"));
    kind + master.as_deref().unwrap_or_default()
}

fn address(address: &ObservedAddress) -> String {
    let note = match (address.dad_failed, address.tentative) {
        (true, _) => " (somebody else has it)",
        (false, true) => " (not used yet)",
        (false, false) => "",
    };
    format!("{}{note}", address.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_links_routes_and_sessions() {
        let net: Net = serde_yaml::from_str(
            "
links:
  - {name: eth0, kind: nic, mac: '52:54:00:00:01:01', driver: virtio_net, mtu: 1500, up: true, carrier: true}
  - {name: eth1, kind: nic, mtu: 9000, up: true, master: bond0}
  - {name: vlan7, kind: !other vlan, mtu: 1500}
addresses:
  - {link: eth0, address: 192.168.1.11/24}
  - {link: eth0, address: 'fd00::b/64', tentative: true}
routes:
  - {destination: 0.0.0.0/0, gateway: 192.168.1.1, link: eth0, metric: 100}
  - {destination: 192.168.1.0/24, link: eth0}
bgp: !away vtysh is not there
",
        )
        .unwrap();
        let expected = "\
eth0   up          mtu 1500  52:54:00:00:01:01  virtio_net          192.168.1.11/24 fd00::b/64 (not used yet)
eth1   no carrier  mtu 9000                     nic, port of bond0
vlan7  off         mtu 1500                     vlan

routes
  0.0.0.0/0       via 192.168.1.1  eth0  metric 100
  192.168.1.0/24  on link          eth0  metric 0

routing sessions
  unknown: vtysh is not there";
        assert_eq!(net.lines().join("\n"), expected);
    }
}
