//! One step → one message to the kernel.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{
    AddressMessageBuilder, LinkBond, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVlan,
};
use trilith_core::names::IfName;
use trilith_core::network::{
    ADDRESS_PROTOCOL, BondOption, Hop, LINK_GROUP, NewLink, ROUTE_PROTOCOL, Step,
};

use super::connection::Connection;
use super::{NetlinkError, bond};

/// Metric of the route to an address's own subnet, which the kernel makes. IPv6 has this one anyway; IPv4's
/// 0 would leave no room for a route with a smaller MTU before it.
const SUBNET_METRIC: u32 = 256;

/// Carries a step out. Parameters and probes are not for the kernel's netlink and do nothing here.
pub(super) async fn apply(connection: &Connection, step: &Step) -> Result<(), NetlinkError> {
    match step {
        Step::SetSysctl { .. } | Step::Probe(_) => Ok(()),
        Step::CreateLink { name, kind, mtu } => create(connection, name, kind, *mtu).await,
        Step::SetBond { link, options } => set_bond(connection, link, options).await,
        Step::DeleteLink(name) => {
            let link = LinkUnspec::new_with_index(index(connection, name).await?).build();
            connection.change(RouteNetlinkMessage::DelLink(link), 0).await
        }
        Step::MarkLink(name) => set(connection, name, |link| link.link_group(LINK_GROUP)).await,
        Step::ReleaseLink(name) => {
            set(connection, name, |link| link.down().nocontroller().link_group(0)).await
        }
        Step::SetMaster { port, master: Some(master) } => {
            let master = index(connection, master).await?;
            set(connection, port, |link| link.controller(master)).await
        }
        Step::SetMaster { port, master: None } => {
            set(connection, port, LinkMessageBuilder::nocontroller).await
        }
        Step::SetUp(name) => set(connection, name, LinkMessageBuilder::up).await,
        Step::SetDown(name) => set(connection, name, LinkMessageBuilder::down).await,
        Step::SetMtu { link, mtu } => set(connection, link, |link| link.mtu(*mtu)).await,
        Step::AddAddress { link, address } => {
            let message = address_message(index(connection, link).await?, *address);
            let flags = NLM_F_CREATE | NLM_F_EXCL;
            connection.change(RouteNetlinkMessage::NewAddress(message), flags).await
        }
        Step::RemoveAddress { link, address } => {
            let message = address_message(index(connection, link).await?, *address);
            connection.change(RouteNetlinkMessage::DelAddress(message), 0).await
        }
        Step::AddRoute(hop) => {
            let message = route_message(index(connection, &hop.link).await?, hop);
            let flags = NLM_F_CREATE | NLM_F_EXCL;
            connection.change(RouteNetlinkMessage::NewRoute(message), flags).await
        }
        Step::ReplaceRoute(hop) => {
            let message = route_message(index(connection, &hop.link).await?, hop);
            let flags = NLM_F_CREATE | NLM_F_REPLACE;
            connection.change(RouteNetlinkMessage::NewRoute(message), flags).await
        }
        Step::RemoveRoute(hop) => {
            let message = route_message(index(connection, &hop.link).await?, hop);
            connection.change(RouteNetlinkMessage::DelRoute(message), 0).await
        }
    }
}

/// A link's number at this moment.
async fn index(connection: &Connection, name: &IfName) -> Result<u32, NetlinkError> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::IfName(name.to_string()));
    match connection.get(RouteNetlinkMessage::GetLink(request)).await {
        Ok(Some(RouteNetlinkMessage::NewLink(link))) => Ok(link.header.index),
        Err(NetlinkError::Refused { source, .. })
            if source.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32) =>
        {
            Err(NetlinkError::NoLink(name.clone()))
        }
        Ok(_) => Err(NetlinkError::NoLink(name.clone())),
        Err(error) => Err(error),
    }
}

/// Changes attributes of a link.
async fn set(
    connection: &Connection,
    name: &IfName,
    change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
) -> Result<(), NetlinkError> {
    let link = LinkUnspec::new_with_index(index(connection, name).await?);
    connection.change(RouteNetlinkMessage::SetLink(change(link).build()), 0).await
}

/// Makes a link up, with its mark: the kernel takes group and MTU in the message that makes a link
/// (`rtnl_create_link` in `net/core/rtnetlink.c`).
async fn create(
    connection: &Connection,
    name: &IfName,
    kind: &NewLink,
    mtu: u32,
) -> Result<(), NetlinkError> {
    let link = match kind {
        NewLink::Bridge => owned(LinkBridge::new(name.as_str()), mtu),
        NewLink::Bond(parameters) => {
            let infos = bond::new(parameters).into_iter();
            owned(
                infos.fold(
                    LinkBond::new(name.as_str()),
                    LinkMessageBuilder::<LinkBond>::append_info_data,
                ),
                mtu,
            )
        }
        NewLink::Vlan { parent, id } => {
            let parent = index(connection, parent).await?;
            owned(LinkVlan::new(name.as_str(), parent, (*id).into()), mtu)
        }
    };
    connection.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL).await
}

fn owned<T>(link: LinkMessageBuilder<T>, mtu: u32) -> LinkMessage {
    link.link_group(LINK_GROUP).mtu(mtu).up().build()
}

/// Parameters of a kind of link are changed by the message that makes links, without the flag to make one.
async fn set_bond(
    connection: &Connection,
    name: &IfName,
    options: &[BondOption],
) -> Result<(), NetlinkError> {
    let mut link = LinkMessageBuilder::<LinkBond>::new_with_info_kind(
        rtnetlink::packet_route::link::InfoKind::Bond,
    )
    .index(index(connection, name).await?);
    for option in options {
        let port = match option {
            BondOption::Primary(Some(port)) => index(connection, port).await?,
            _ => 0,
        };
        link = link.append_info_data(bond::option(option, port));
    }
    connection.change(RouteNetlinkMessage::NewLink(link.build()), 0).await
}

fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let length = address.prefix_len();
    let mut message = match address.addr() {
        IpAddr::V4(ip) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(index)
            .address(ip, length)
            .build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<std::net::Ipv6Addr>::new()
            .index(index)
            .address(ip, length)
            .build(),
    };
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(ADDRESS_PROTOCOL)));
    message.attributes.push(AddressAttribute::RoutePriority(SUBNET_METRIC));
    message
}

fn route_message(index: u32, hop: &Hop) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = match hop.destination {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    header.destination_prefix_length = hop.destination.prefix_len();
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    header.scope = if hop.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    header.kind = RouteType::Unicast;
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Oif(index));
    if hop.destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(hop.destination.network().into()));
    }
    attributes.extend(hop.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    if hop.metric > 0 {
        attributes.push(RouteAttribute::Priority(hop.metric));
    }
    attributes.extend(hop.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    message
}
