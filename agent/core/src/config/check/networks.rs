//! The core networks: what carries what, subnets, gateways, floating addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Check;
use crate::config::given::Given;
use crate::config::problem::error;
use crate::config::raw::{RawFamily, RawFile, RawNetwork, RawNetworks};
use crate::config::spots::Spot;
use crate::config::{Network, NetworkName, Subnet};

/// A distinct core network with places.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) name: NetworkName,
    pub(super) spot: Spot,
    pub(super) shared_by: Vec<(NetworkName, Spot)>,
    pub(super) subnets: Vec<CoreSubnet>,
}

/// A subnet with places. What is wrong has been told and is left out.
#[derive(Debug)]
pub(super) struct CoreSubnet {
    pub(super) net: IpNet,
    pub(super) spot: Spot,
    pub(super) gateway: Option<(IpAddr, Spot)>,
    pub(super) floating: Option<(IpAddr, Spot)>,
}

impl Core {
    /// Without places.
    pub(super) fn valid(&self) -> Network {
        let subnet = |subnet: &CoreSubnet| Subnet {
            net: subnet.net,
            gateway: subnet.gateway.map(|(address, _)| address),
            floating: subnet.floating.map(|(address, _)| address),
        };
        Network {
            name: self.name,
            shared_by: self.shared_by.iter().map(|(name, _)| *name).collect(),
            subnets: self.subnets.iter().map(subnet).collect(),
        }
    }
}

/// The distinct networks.
pub(super) fn networks(check: Check<'_>, file: &RawFile) -> Vec<Core> {
    let help = "write\nnetworks:\n  upstream: {link: lan, ipv4: {subnet: 10.0.0.0/24, gateway: 10.0.0.1}}\n  \
                cluster: {same_as: upstream}\n  storage: {same_as: upstream}";
    let Some(raw) = check.need(&file.networks, Spot::ROOT, "networks", help) else {
        return Vec::new();
    };
    let parent = file.networks.at().map_or(Spot::ROOT, |(_, spot)| spot);
    let mut cores = Vec::new();
    for name in NetworkName::ALL {
        let help = format!("give `{name}` a link and subnets, or `same_as` another network");
        let present = check.need(raw.get(name), parent, name.as_str(), &help);
        let Some((network, spot)) = present.and(raw.get(name).at()) else { continue };
        if network.same_as.is_absent() {
            cores.push(core(check, name, network, spot));
        } else {
            check_sharing(check, name, network, &raw);
        }
    }
    for core in &mut cores {
        core.shared_by = shared_by(core.name, &raw);
    }
    refuse_overlaps(check, &cores);
    cores
}

fn shared_by(base: NetworkName, raw: &RawNetworks) -> Vec<(NetworkName, Spot)> {
    let sharing = |name: &NetworkName| {
        let (_, spot) = raw.get(*name).at()?;
        let same = *name != base && raw.get(*name).get()?.same_as.get() == Some(&base);
        same.then_some((*name, spot))
    };
    NetworkName::ALL.iter().filter_map(sharing).collect()
}

/// A network that is the same as another says nothing else.
fn check_sharing(check: Check<'_>, name: NetworkName, network: &RawNetwork, raw: &RawNetworks) {
    let RawNetwork { same_as, link, mtu, ipv4, ipv6 } = network;
    let Some((&base, spot)) = same_as.at() else { return };
    if base == name {
        let help = "name another network, or give this one a link and subnets";
        check.tell(error(spot, format!("{name} cannot be the same as itself")).help(help));
    } else if let Some((&next, _)) = raw.get(base).get().and_then(|base| base.same_as.at()) {
        let reason = format!("{base} itself is the same as {next}");
        let help = if next == name {
            "give one of them a link and subnets".to_owned()
        } else {
            format!("write `same_as: {next}`")
        };
        check.tell(error(spot, reason).help(help));
    }
    let link = link.at().map(|(_, spot)| ("link", spot));
    let mtu = mtu.at().map(|(_, spot)| ("mtu", spot));
    let ipv4 = ipv4.at().map(|(_, spot)| ("ipv4", spot));
    let ipv6 = ipv6.at().map(|(_, spot)| ("ipv6", spot));
    for (key, spot) in [link, mtu, ipv4, ipv6].into_iter().flatten() {
        let reason = format!("{name} is the same as {base}, so `{key}` would be configured twice");
        let help = format!("remove `{key}` here, or remove `same_as`");
        check.tell(error(spot, reason).on_key().help(help));
    }
}

fn core(check: Check<'_>, name: NetworkName, network: &RawNetwork, spot: Spot) -> Core {
    let RawNetwork { same_as: _, link: _, mtu: _, ipv4, ipv6 } = network;
    if ipv4.is_absent() && ipv6.is_absent() {
        let reason = format!("{name} has neither IPv4 nor IPv6");
        let help = "give `ipv4: {subnet: 10.0.0.0/24}` or `ipv6: {subnet: fd00:1::/64}`";
        check.tell(error(spot, reason).help(help));
    }
    let subnets = [family(check, name, ipv4), family(check, name, ipv6)];
    Core { name, spot, shared_by: Vec::new(), subnets: subnets.into_iter().flatten().collect() }
}

fn family<S, A>(
    check: Check<'_>,
    name: NetworkName,
    raw: &Given<RawFamily<S, A>>,
) -> Option<CoreSubnet>
where
    S: Copy + Into<IpNet>,
    A: Copy + Into<IpAddr>,
{
    let (family, parent) = raw.at()?;
    let help = "write `subnet: 10.0.0.0/24` (or an IPv6 one below ipv6)";
    check.need(&family.subnet, parent, "subnet", help);
    let (subnet, spot) = family.subnet.at()?;
    let net = check_subnet(check, (*subnet).into(), spot)?;
    let gateway = family.gateway.at().and_then(|(address, spot)| {
        check_gateway(check, name, net, (*address).into(), spot)
            .then_some(((*address).into(), spot))
    });
    let floating = family.floating.at().and_then(|(address, spot)| {
        is_host(check, net, (*address).into(), spot).then_some(((*address).into(), spot))
    });
    Some(CoreSubnet { net, spot, gateway, floating })
}

/// The subnet if nodes can live in it.
fn check_subnet(check: Check<'_>, net: IpNet, spot: Spot) -> Option<IpNet> {
    if net.trunc() != net {
        let reason = format!(
            "{net} is a host's address, not a network: bits after /{} are set",
            net.prefix_len()
        );
        check.tell(error(spot, reason).help(format!("write {}", net.trunc())));
    }
    let net = net.trunc();
    let room = net.max_prefix_len() - net.prefix_len();
    if room < 2 {
        let reason = format!("{net} has no room for nodes");
        let longest = net.max_prefix_len() - 2;
        check
            .tell(error(spot, reason).help(format!("the prefix length is at most {longest} here")));
        return None;
    }
    if let Some(what) = unusable(net.network()).or_else(|| unusable(net.broadcast())) {
        let reason = format!("{net} is {what} and cannot be a core network");
        let help = match net {
            IpNet::V4(_) => "use private addresses, such as 10.0.0.0/24 (RFC 1918)",
            IpNet::V6(_) => "use unique local addresses, such as fd00:1::/64 (RFC 4193)",
        };
        check.tell(error(spot, reason).help(help));
        return None;
    }
    Some(net)
}

/// Why an address cannot be a node's.
pub(super) fn unusable(address: IpAddr) -> Option<&'static str> {
    let (loopback, multicast, unspecified) =
        (address.is_loopback(), address.is_multicast(), address.is_unspecified());
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let kinds = [
        (loopback, "for the loopback"),
        (multicast, "for multicast"),
        (link_local, "link-local"),
        (unspecified, "the unspecified address"),
    ];
    kinds.into_iter().find(|(is, _)| *is).map(|(_, what)| what)
}

/// Whether an address in a subnet can be a host's; told if not.
pub(super) fn is_host(check: Check<'_>, net: IpNet, address: IpAddr, spot: Spot) -> bool {
    let reason = if !net.contains(&address) {
        format!("{address} is outside of {net}")
    } else if address == net.network() {
        format!("{address} is the address of the network {net} itself")
    } else if net.addr().is_ipv4() && address == net.broadcast() {
        format!("{address} is the broadcast address of {net}")
    } else {
        return true;
    };
    check.tell(error(spot, reason).help(format!("write {}", span(net))));
    false
}

/// `an address from 10.0.0.1 to 10.0.0.254`.
pub(super) fn span(net: IpNet) -> String {
    let first = host(net, 1).unwrap_or(net.network());
    let last = host(net, last_host(net)).unwrap_or(net.broadcast());
    format!("an address from {first} to {last}")
}

/// The highest host number of a subnet. IPv6 has no broadcast address.
pub(super) fn last_host(net: IpNet) -> u128 {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    let all = 1_u128.checked_shl(bits).map_or(u128::MAX, |count| count - 1);
    if net.addr().is_ipv4() { all - 1 } else { all }
}

/// The address with this host number; `None` if the subnet ends before.
pub(super) fn host(net: IpNet, number: u128) -> Option<IpAddr> {
    if number == 0 || number > last_host(net) {
        return None;
    }
    Some(match net.network() {
        IpAddr::V4(base) => IpAddr::V4((u32::from(base) + u32::try_from(number).ok()?).into()),
        IpAddr::V6(base) => IpAddr::V6((u128::from(base) + number).into()),
    })
}

fn check_gateway(
    check: Check<'_>,
    name: NetworkName,
    net: IpNet,
    address: IpAddr,
    spot: Spot,
) -> bool {
    if name != NetworkName::Upstream {
        let reason = format!("{name} has no gateway: the default route leads through upstream");
        check.tell(error(spot, reason).on_key().help("remove `gateway` here"));
        return false;
    }
    // Routers often announce themselves by their link-local address, and it is on every link.
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    link_local || is_host(check, net, address, spot)
}

fn refuse_overlaps(check: Check<'_>, cores: &[Core]) {
    let subnets: Vec<(NetworkName, &CoreSubnet)> = cores
        .iter()
        .flat_map(|core| core.subnets.iter().map(|subnet| (core.name, subnet)))
        .collect();
    for (index, (name, subnet)) in subnets.iter().enumerate() {
        for (other_name, other) in &subnets[..index] {
            if !(subnet.net.contains(&other.net) || other.net.contains(&subnet.net)) {
                continue;
            }
            let reason = format!(
                "{} of {name} overlaps {} of {other_name} (line {})",
                subnet.net,
                other.net,
                check.spots.line(other.spot)
            );
            let help = format!(
                "use another subnet, or write `{name}: {{same_as: {other_name}}}` if they are one network"
            );
            check.tell(error(subnet.spot, reason).help(help));
        }
    }
}
