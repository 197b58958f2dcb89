//! The same network as files of systemd-networkd (systemd.network(5), systemd.netdev(5)).

use std::fmt::Write;

use trilith_core::config::{BalanceHash, BondMode, LacpRate, Link, LinkKind, NicChoice, Node};
use trilith_core::names::IfName;

/// File names below /run/systemd/network, and their texts.
pub(crate) fn files(node: &Node) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for (name, link) in &node.links {
        if let Some(text) = netdev(name, link) {
            files.push((format!("{name}.netdev"), text));
        }
        files.push((format!("{name}.network"), network(node, name, link)));
    }
    files
}

fn netdev(name: &IfName, link: &Link) -> Option<String> {
    let (kind, more) = match &link.kind {
        LinkKind::Nic(_) => return None,
        LinkKind::Bond(bond) => ("bond", bond_section(&bond.mode)),
        LinkKind::Vlan { id, .. } => ("vlan", format!("[VLAN]\nId={id}\n")),
        LinkKind::Bridge { .. } => ("bridge", String::new()),
    };
    Some(format!("[NetDev]\nName={name}\nKind={kind}\nMTUBytes={}\n{more}", link.mtu))
}

fn bond_section(mode: &BondMode) -> String {
    let mode = match mode {
        BondMode::Lacp { rate, hash } => {
            let rate = match rate {
                LacpRate::Slow => "slow",
                LacpRate::Fast => "fast",
            };
            format!("Mode=802.3ad\nLACPTransmitRate={rate}\n{}", policy(*hash))
        }
        BondMode::ActiveBackup { primary: _ /* named in the port's file */ } => {
            "Mode=active-backup\n".into()
        }
        BondMode::BalanceXor { hash } => format!("Mode=balance-xor\n{}", policy(*hash)),
    };
    format!("[Bond]\nMIIMonitorSec=100ms\n{mode}")
}

fn policy(hash: BalanceHash) -> String {
    let policy = match hash {
        BalanceHash::Layer2 => "layer2",
        BalanceHash::Layer2And3 => "layer2+3",
        BalanceHash::Layer3And4 => "layer3+4",
    };
    format!("TransmitHashPolicy={policy}\n")
}

fn network(node: &Node, name: &IfName, link: &Link) -> String {
    let mut text = match &link.kind {
        LinkKind::Nic(NicChoice::Mac(mac)) => format!("[Match]\nPermanentMACAddress={mac}\n"),
        LinkKind::Nic(NicChoice::Driver(driver)) => format!("[Match]\nDriver={driver}\n"),
        LinkKind::Nic(NicChoice::Path(path)) => format!("[Match]\nPath=pci-{path}\n"),
        LinkKind::Nic(NicChoice::Name(_))
        | LinkKind::Bond(_)
        | LinkKind::Vlan { .. }
        | LinkKind::Bridge { .. } => {
            format!("[Match]\nName={name}\n")
        }
    };
    let _infallible = write!(text, "[Link]\nMTUBytes={}\n[Network]\n", link.mtu);
    text.push_str("LinkLocalAddressing=ipv6\nIPv6AcceptRA=no\nDHCP=no\nLLDP=no\n");
    if let Some(master) = node.master_of(name) {
        let is_bond =
            node.links.get(master).is_some_and(|link| matches!(link.kind, LinkKind::Bond(_)));
        let _infallible = writeln!(text, "{}={master}", if is_bond { "Bond" } else { "Bridge" });
    }
    for (vlan, above) in &node.links {
        if matches!(&above.kind, LinkKind::Vlan { parent, .. } if parent == name) {
            let _infallible = writeln!(text, "VLAN={vlan}");
        }
    }
    for address in
        node.networks.iter().filter(|net| net.link == *name).flat_map(|net| &net.addresses)
    {
        // As networkd does it by itself: it asks for duplicates of IPv6 addresses only. The agent also asks for
        // those of IPv4, so that the comparison is to its disadvantage.
        let _infallible = write!(text, "[Address]\nAddress={}\n", address.address);
        if let Some(gateway) = address.gateway {
            let _infallible = write!(text, "[Route]\nGateway={gateway}\n");
        }
    }
    text
}
