//! The kernel's messages → [`Observed`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoBondPort, InfoData, InfoKind, InfoPortData, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage, Prop,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use trilith_core::names::{IfName, MacAddr};
use trilith_core::network::{Observed, ObservedAddress, ObservedKind, ObservedLink, ObservedRoute};

use super::connection::Connection;
use super::{NetlinkError, bond, device};

/// Names by the kernel's numbers.
pub(super) type Names = BTreeMap<u32, IfName>;

/// Links, addresses and routes, in four dumps.
pub(super) async fn observe(connection: &Connection) -> Result<Observed, NetlinkError> {
    let links = connection.dump("links", RouteNetlinkMessage::GetLink(all_links())).await?;
    let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let addresses = connection.dump("addresses", addresses).await?;
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let request = RouteNetlinkMessage::GetRoute(main_table(family));
        routes.extend(connection.dump("routes", request).await?);
    }
    Ok(assemble(&links, &addresses, &routes))
}

/// Without statistics, which are most of the bytes.
fn all_links() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

fn main_table(family: AddressFamily) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message
}

fn assemble(
    links: &[RouteNetlinkMessage],
    addresses: &[RouteNetlinkMessage],
    routes: &[RouteNetlinkMessage],
) -> Observed {
    let links: Vec<_> = links
        .iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .filter(|link| !link.header.flags.contains(LinkFlags::Loopback))
        .collect();
    let names: Names =
        links.iter().filter_map(|link| Some((link.header.index, name(link)?))).collect();
    let now = uptime();
    Observed {
        links: links.into_iter().filter_map(|link| observed_link(link, &names)).collect(),
        addresses: addresses
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(address) => observed_address(address, &names, now),
                _ => None,
            })
            .collect(),
        routes: routes
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => observed_route(route, &names),
                _ => None,
            })
            .collect(),
        ..Observed::default()
    }
}

/// Seconds since the machine started, as the kernel stamps addresses.
fn uptime() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec());
    u64::try_from(now).unwrap_or(0)
}

fn name(link: &LinkMessage) -> Option<IfName> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => IfName::try_from(name.clone()).ok(),
        _ => None,
    })
}

fn observed_link(message: &LinkMessage, names: &Names) -> Option<ObservedLink> {
    let mut link = ObservedLink {
        name: names.get(&message.header.index)?.clone(),
        alternative_names: Vec::new(),
        index: message.header.index,
        kind: kind(message, names),
        mac: None,
        permanent_mac: None,
        pci: None,
        driver: None,
        mtu: 0,
        max_mtu: None,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        master: None,
        group: 0,
    };
    let mut parent = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => link.mac = mac(bytes),
            LinkAttribute::PermAddress(bytes) => link.permanent_mac = mac(bytes),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::MaxMtu(mtu) => link.max_mtu = Some(*mtu).filter(|mtu| *mtu > 0),
            LinkAttribute::Controller(index) => link.master = names.get(index).cloned(),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::ParentDevName(name) => parent.0 = Some(name),
            LinkAttribute::ParentDevBusName(bus) => parent.1 = Some(bus),
            LinkAttribute::PropList(props) => {
                link.alternative_names.extend(props.iter().filter_map(|prop| match prop {
                    Prop::AltIfName(name) => Some(name.clone()),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    link.permanent_mac = link.permanent_mac.or_else(|| mac_before_bond(message));
    if let (Some(name), Some(bus)) = parent {
        let device = device::device(bus, name);
        (link.pci, link.driver) = (device.pci, device.driver);
    } else if info_kind(message) == Some(&InfoKind::Veth) {
        link.driver = Some("veth".into());
    }
    Some(link)
}

/// Six bytes that are not all zero.
fn mac(bytes: &[u8]) -> Option<MacAddr> {
    <[u8; 6]>::try_from(bytes).ok().filter(|bytes| *bytes != [0; 6]).map(MacAddr)
}

/// What a bond's port gets back when it leaves: the best there is for a card without a permanent address, as
/// all ports show the bond's.
fn mac_before_bond(message: &LinkMessage) -> Option<MacAddr> {
    infos(message).iter().find_map(|info| match info {
        LinkInfo::PortData(InfoPortData::BondPort(port)) => {
            port.iter().find_map(|about| match about {
                InfoBondPort::PermHwaddr(bytes) => mac(bytes),
                _ => None,
            })
        }
        _ => None,
    })
}

fn infos(message: &LinkMessage) -> &[LinkInfo] {
    let infos = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos.as_slice()),
        _ => None,
    });
    infos.unwrap_or_default()
}

fn info_kind(message: &LinkMessage) -> Option<&InfoKind> {
    infos(message).iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })
}

/// A card has no kind of its own in the kernel; a veth stands for one in a container.
fn kind(message: &LinkMessage, names: &Names) -> ObservedKind {
    let data = infos(message).iter().find_map(|info| match info {
        LinkInfo::Data(data) => Some(data),
        _ => None,
    });
    match (info_kind(message), data) {
        (None, _) if message.header.link_layer_type == LinkLayerType::Ether => ObservedKind::Nic,
        (None, _) => ObservedKind::Other(format!("{:?}", message.header.link_layer_type)),
        (Some(InfoKind::Veth), _) => ObservedKind::Nic,
        (Some(InfoKind::Bridge), _) => ObservedKind::Bridge,
        (Some(InfoKind::Bond), Some(InfoData::Bond(infos))) => {
            ObservedKind::Bond(bond::observed(infos, names))
        }
        (Some(InfoKind::Vlan), Some(InfoData::Vlan(infos))) => {
            vlan(message, infos, names).unwrap_or_else(|| ObservedKind::Other("vlan".into()))
        }
        (Some(kind), _) => ObservedKind::Other(kind.to_string()),
    }
}

/// `None` for tags of another protocol than 802.1Q (the S-tags of provider bridges).
fn vlan(
    message: &LinkMessage,
    infos: &[rtnetlink::packet_route::link::InfoVlan],
    names: &Names,
) -> Option<ObservedKind> {
    use rtnetlink::packet_route::link::{InfoVlan, VlanProtocol};
    let foreign = |info: &InfoVlan| matches!(info, InfoVlan::Protocol(protocol) if *protocol != VlanProtocol::Ieee8021Q);
    if infos.iter().any(foreign) {
        return None;
    }
    let id = infos.iter().find_map(|info| match info {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    });
    let parent = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => names.get(index).cloned(),
        _ => None,
    });
    Some(ObservedKind::Vlan { parent, id: id?.try_into().ok()? })
}

fn observed_address(message: &AddressMessage, names: &Names, now: u64) -> Option<ObservedAddress> {
    let (mut local, mut peer, mut protocol, mut stamp) = (None, None, 0, 0);
    let mut flags = AddressFlags::empty();
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Flags(bits) => flags = *bits,
            AddressAttribute::Protocol(number) => protocol = u8::from(*number),
            AddressAttribute::CacheInfo(times) => stamp = times.tstamp,
            _ => {}
        }
    }
    Some(ObservedAddress {
        link: names.get(&message.header.index)?.clone(),
        address: IpNet::new(local.or(peer)?, message.header.prefix_len).ok()?,
        protocol,
        tentative: flags.contains(AddressFlags::Tentative),
        dad_failed: flags.contains(AddressFlags::Dadfailed),
        // Hundredths of a second since the machine started.
        age: now.saturating_sub(u64::from(stamp / 100)),
    })
}

/// `None` for what is no plain route of the main table: several next hops, blackholes, other tables.
fn observed_route(message: &RouteMessage, names: &Names) -> Option<ObservedRoute> {
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let (mut gateway, mut link, mut metric, mut mtu) = (None, None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => link = names.get(index).cloned(),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(route_mtu),
            _ => {}
        }
    }
    Some(ObservedRoute {
        destination: destination(message)?,
        gateway,
        link: link?,
        metric,
        mtu,
        protocol: header.protocol.into(),
    })
}

fn route_mtu(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(bytes) => Some(*bytes),
        _ => None,
    }
}

/// Where a route leads; without an attribute everywhere.
pub(super) fn destination(message: &RouteMessage) -> Option<IpNet> {
    let everywhere = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let to = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    IpNet::new(to.unwrap_or(everywhere), message.header.destination_prefix_length).ok()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}
