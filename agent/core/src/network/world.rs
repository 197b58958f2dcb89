//! A small kernel: it carries out steps, refuses what the real one refuses, and does by itself what the real
//! one does by itself. What it says was seen on Linux 6.12.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::desired::{BondMode, Desired, Kind, NicSelector};
use super::observed::{
    Observed, ObservedAddress, ObservedBond, ObservedKind, ObservedLink, ObservedRoute, Probe,
};
use super::step::{BondOption, Hop, NewLink, Step};
use super::{ADDRESS_PROTOCOL, LINK_GROUP, ROUTE_PROTOCOL, sysctl_paths};
use crate::names::{IfName, MacAddr};

/// Why the kernel would refuse.
pub(crate) type Refused = Result<(), String>;

#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) links: BTreeMap<IfName, ObservedLink>,
    pub(crate) addresses: Vec<ObservedAddress>,
    pub(crate) routes: Vec<ObservedRoute>,
    sysctls: BTreeMap<String, String>,
    probes: Vec<Probe>,
    /// Bridges whose MTU was set; the others follow their ports.
    sized: Vec<IfName>,
}

pub(crate) fn if_name(text: &str) -> IfName {
    text.to_owned().try_into().unwrap()
}

impl World {
    /// A host with these NICs, all cables plugged in.
    pub(crate) fn with_nics(names: &[&str]) -> Self {
        let mut world = Self::default();
        for (n, name) in (1..).zip(names) {
            let mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, n]));
            world.insert(if_name(name), ObservedKind::Nic, 1500);
            let nic = world.links.get_mut(&if_name(name)).unwrap();
            (nic.mac, nic.permanent_mac) = (mac, mac);
        }
        world
    }

    /// A host with the NICs that are wanted, all cables plugged in.
    pub(crate) fn for_nics_of(desired: &Desired) -> Self {
        let mut world = Self::default();
        for (logical, link) in &desired.links {
            let Kind::Nic(NicSelector { name, mac, pci, driver }) = &link.kind else { continue };
            let kernel = name.clone().unwrap_or_else(|| if_name(&format!("k{logical}")));
            world.insert(kernel.clone(), ObservedKind::Nic, 1500);
            let nic = world.links.get_mut(&kernel).unwrap();
            (nic.permanent_mac, nic.pci, nic.driver) = (*mac, pci.clone(), driver.clone());
        }
        world
    }

    fn insert(&mut self, name: IfName, kind: ObservedKind, mtu: u32) {
        let link = ObservedLink {
            name: name.clone(),
            alternative_names: Vec::new(),
            index: 0,
            kind,
            mac: None,
            permanent_mac: None,
            pci: None,
            driver: None,
            mtu,
            max_mtu: None,
            up: false,
            carrier: false,
            master: None,
            group: 0,
        };
        self.links.insert(name, link);
    }

    /// Somebody else's tap in a bridge.
    pub(crate) fn plug_tap(&mut self, name: &str, bridge: &IfName) {
        self.insert(if_name(name), ObservedKind::Other("tun".into()), 1500);
        let tap = self.links.get_mut(&if_name(name)).unwrap();
        (tap.up, tap.master) = (true, Some(bridge.clone()));
    }

    pub(crate) fn observe(&self, desired: &Desired) -> Observed {
        let mut observed = Observed {
            links: self.links.values().cloned().collect(),
            addresses: self.addresses.clone(),
            routes: self.routes.clone(),
            probes: self.probes.clone(),
            sysctls: BTreeMap::new(),
        };
        for link in &mut observed.links {
            link.carrier = self.carrier(&link.name);
        }
        for path in sysctl_paths(desired, &observed) {
            let value = self.sysctls.get(&path).cloned().unwrap_or_else(|| "0".into());
            observed.sysctls.insert(path, value);
        }
        observed
    }

    fn carrier(&self, name: &IfName) -> bool {
        let Some(link) = self.links.get(name).filter(|link| link.up) else { return false };
        match &link.kind {
            ObservedKind::Nic | ObservedKind::Other(_) => true,
            ObservedKind::Vlan { parent, .. } => {
                parent.as_ref().is_some_and(|below| self.carrier(below))
            }
            ObservedKind::Bond(_) | ObservedKind::Bridge => {
                self.ports(name).iter().any(|port| self.carrier(port))
            }
        }
    }

    fn ports(&self, master: &IfName) -> Vec<IfName> {
        let ports = self.links.values().filter(|link| link.master.as_ref() == Some(master));
        ports.map(|link| link.name.clone()).collect()
    }

    fn vlans_on(&self, below: &IfName) -> Vec<IfName> {
        let on_it = |link: &&ObservedLink| matches!(&link.kind, ObservedKind::Vlan { parent: Some(parent), .. } if parent == below);
        self.links.values().filter(on_it).map(|link| link.name.clone()).collect()
    }

    fn link(&mut self, name: &IfName) -> Result<&mut ObservedLink, String> {
        self.links.get_mut(name).ok_or_else(|| format!("no link {name}"))
    }

    fn is_bond(&self, name: &IfName) -> bool {
        self.links.get(name).is_some_and(|link| matches!(link.kind, ObservedKind::Bond(_)))
    }

    pub(crate) fn apply(&mut self, step: &Step) -> Refused {
        match step {
            Step::SetSysctl { path, value } => {
                if let Some(link) = path.strip_prefix("net/ipv6/conf/").filter(|_| value == "1")
                    && let Some(link) = link.strip_suffix("/disable_ipv6")
                {
                    self.addresses
                        .retain(|seen| seen.link.as_str() != link || is_v4(&seen.address));
                }
                self.sysctls.insert(path.clone(), value.clone());
                Ok(())
            }
            Step::CreateLink { name, kind, mtu } => self.create(name, kind, *mtu),
            Step::DeleteLink(name) => self.delete(name),
            Step::MarkLink(name) => self.link(name).map(|link| link.group = LINK_GROUP),
            Step::ReleaseLink(name) => {
                self.set_down(name)?;
                self.set_master(name, None)?;
                self.link(name).map(|link| link.group = 0)
            }
            Step::SetMaster { port, master } => self.set_master(port, master.as_ref()),
            Step::SetUp(name) => self.set_up(name),
            Step::SetDown(name) => self.set_down(name),
            Step::SetMtu { link, mtu } => self.set_mtu(link, *mtu),
            Step::SetBond { link, options } => {
                options.iter().try_for_each(|option| self.set_bond(link, option))
            }
            Step::AddAddress { link, address } => self.add_address(link, *address),
            Step::RemoveAddress { link, address } => self.remove_address(link, *address),
            Step::Probe(targets) => {
                self.probes.extend(targets.iter().map(|(link, address)| Probe {
                    link: link.clone(),
                    address: *address,
                    holder: None,
                }));
                Ok(())
            }
            Step::AddRoute(hop) => self.add_route(hop, false),
            Step::ReplaceRoute(hop) => self.add_route(hop, true),
            Step::RemoveRoute(hop) => {
                let before = self.routes.len();
                self.routes.retain(|seen| !same_place(seen, hop) || seen.gateway != hop.gateway);
                if self.routes.len() < before { Ok(()) } else { Err(format!("no route {hop}")) }
            }
        }
    }

    fn create(&mut self, name: &IfName, kind: &NewLink, mtu: u32) -> Refused {
        if self.links.contains_key(name) {
            return Err(format!("{name} exists"));
        }
        let kind = match kind {
            NewLink::Bridge => ObservedKind::Bridge,
            NewLink::Bond(bond) => ObservedKind::Bond(ObservedBond {
                mode: Some(bond.mode),
                miimon: bond.miimon,
                lacp_rate: Some(bond.lacp_rate),
                xmit_hash_policy: Some(bond.xmit_hash_policy),
                primary: None,
            }),
            NewLink::Vlan { parent, id } => {
                let below = self.link(parent)?;
                if mtu > below.mtu || !below.up {
                    return Err(format!("{name}: MTU {mtu} over {}, up: {}", below.mtu, below.up));
                }
                ObservedKind::Vlan { parent: Some(parent.clone()), id: *id }
            }
        };
        self.insert(name.clone(), kind, mtu);
        let link = self.link(name)?;
        (link.up, link.group) = (true, LINK_GROUP);
        Ok(())
    }

    pub(crate) fn delete(&mut self, name: &IfName) -> Refused {
        for vlan in self.vlans_on(name) {
            self.delete(&vlan)?;
        }
        for port in self.ports(name) {
            self.set_master(&port, None)?;
        }
        self.links.remove(name).ok_or_else(|| format!("no link {name}"))?;
        self.addresses.retain(|seen| seen.link != *name);
        self.routes.retain(|seen| seen.link != *name);
        self.sized.retain(|bridge| bridge != name);
        self.sysctls.retain(|path, _| !path.contains(&format!("/{name}/")));
        Ok(())
    }

    pub(crate) fn set_up(&mut self, name: &IfName) -> Refused {
        if let ObservedKind::Vlan { parent: Some(parent), .. } = self.link(name)?.kind.clone()
            && !self.link(&parent)?.up
        {
            return Err(format!("{parent} below {name} is down"));
        }
        self.link(name)?.up = true;
        self.vlans_on(name).iter().try_for_each(|vlan| self.set_up(vlan))
    }

    pub(crate) fn set_down(&mut self, name: &IfName) -> Refused {
        self.link(name)?.up = false;
        self.addresses.retain(|seen| seen.link != *name || is_v4(&seen.address));
        self.routes.retain(|seen| seen.link != *name);
        self.vlans_on(name).iter().try_for_each(|vlan| self.set_down(vlan))
    }

    pub(crate) fn set_master(&mut self, port: &IfName, master: Option<&IfName>) -> Refused {
        if let Some(old) = self.link(port)?.master.take()
            && self.is_bond(&old)
        {
            self.set_down(port)?;
            if let ObservedKind::Bond(bond) = &mut self.link(&old)?.kind {
                bond.primary = bond.primary.take().filter(|primary| primary != port);
            }
        }
        let Some(master) = master else { return Ok(()) };
        let mtu = self.link(master)?.mtu;
        if self.is_bond(master) {
            if self.link(port)?.up {
                return Err(format!("{port} is up and cannot enter {master}"));
            }
            self.set_mtu(port, mtu)?;
            self.set_up(port)?;
        }
        self.link(port)?.master = Some(master.clone());
        if !self.is_bond(master) && !self.sized.contains(master) {
            let ports = self.ports(master);
            let smallest = ports.iter().filter_map(|port| Some(self.links.get(port)?.mtu)).min();
            self.link(master)?.mtu = smallest.unwrap_or(mtu);
        }
        Ok(())
    }

    pub(crate) fn set_mtu(&mut self, name: &IfName, mtu: u32) -> Refused {
        match self.link(name)?.kind.clone() {
            ObservedKind::Vlan { parent: Some(parent), .. } if mtu > self.link(&parent)?.mtu => {
                return Err(format!("{mtu} is more than {parent} below {name} has"));
            }
            ObservedKind::Bond(_) => {
                self.ports(name).iter().try_for_each(|port| self.set_mtu(port, mtu))?;
            }
            ObservedKind::Bridge => self.sized.push(name.clone()),
            ObservedKind::Vlan { .. } | ObservedKind::Nic | ObservedKind::Other(_) => {}
        }
        self.link(name)?.mtu = mtu;
        for vlan in self.vlans_on(name) {
            if self.link(&vlan)?.mtu > mtu {
                self.set_mtu(&vlan, mtu)?;
            }
        }
        Ok(())
    }

    fn set_bond(&mut self, name: &IfName, option: &BondOption) -> Refused {
        let empty = self.ports(name).is_empty();
        let ports = self.ports(name);
        let link = self.link(name)?;
        let up = link.up;
        let ObservedKind::Bond(bond) = &mut link.kind else {
            return Err(format!("{name} is no bond"));
        };
        match option {
            BondOption::Mode(_) if up || !empty => {
                return Err(format!("{name} is up or has ports"));
            }
            BondOption::Mode(mode) => bond.mode = Some(*mode),
            BondOption::LacpRate(_) if up || bond.mode != Some(BondMode::Lacp) => {
                return Err(format!("{name} is up or has no LACP"));
            }
            BondOption::LacpRate(rate) => bond.lacp_rate = Some(*rate),
            BondOption::Miimon(millis) => bond.miimon = *millis,
            BondOption::XmitHashPolicy(policy) => bond.xmit_hash_policy = Some(*policy),
            BondOption::Primary(_) if bond.mode != Some(BondMode::ActiveBackup) => {
                return Err(format!("{name} knows no primary in this mode"));
            }
            BondOption::Primary(port) => {
                bond.primary = port.clone().filter(|port| ports.contains(port));
            }
        }
        Ok(())
    }

    pub(crate) fn add_address(&mut self, link: &IfName, address: IpNet) -> Refused {
        self.link(link)?;
        let disabled = self.sysctls.get(&format!("net/ipv6/conf/{link}/disable_ipv6"));
        let twice = self.addresses.iter().any(|seen| seen.link == *link && seen.address == address);
        if twice || (disabled.is_some_and(|value| value == "1") && !is_v4(&address)) {
            return Err(format!("{address} cannot be added to {link}"));
        }
        self.addresses.push(ObservedAddress {
            link: link.clone(),
            address,
            protocol: ADDRESS_PROTOCOL,
            tentative: false,
            dad_failed: false,
            age: 0,
        });
        Ok(())
    }

    pub(crate) fn remove_address(&mut self, link: &IfName, address: IpNet) -> Refused {
        let before = self.addresses.len();
        self.addresses.retain(|seen| seen.link != *link || seen.address != address);
        if self.addresses.len() == before {
            return Err(format!("{address} is not on {link}"));
        }
        let addresses = &self.addresses;
        self.routes.retain(|route| {
            route.link != *link || is_reached(addresses, &route.link, route.gateway)
        });
        Ok(())
    }

    fn add_route(&mut self, hop: &Hop, replace: bool) -> Refused {
        let reached = is_reached(&self.addresses, &hop.link, hop.gateway);
        if !reached || !self.link(&hop.link)?.up {
            return Err(format!("nobody reaches {hop}"));
        }
        if replace {
            self.routes.retain(|seen| !same_place(seen, hop));
        } else if self.routes.iter().any(|seen| same_place(seen, hop)) {
            return Err(format!("there is a route {hop}"));
        }
        self.routes.push(ObservedRoute {
            destination: hop.destination,
            gateway: hop.gateway,
            link: hop.link.clone(),
            metric: hop.metric,
            mtu: hop.mtu,
            protocol: ROUTE_PROTOCOL,
        });
        Ok(())
    }
}

fn is_reached(addresses: &[ObservedAddress], link: &IfName, gateway: Option<IpAddr>) -> bool {
    let near = matches!(gateway, Some(IpAddr::V6(ip)) if ip.is_unicast_link_local());
    let covers = |seen: &ObservedAddress| {
        seen.link == *link && gateway.is_none_or(|via| seen.address.contains(&via))
    };
    near || addresses.iter().any(covers)
}

fn is_v4(address: &IpNet) -> bool {
    matches!(address, IpNet::V4(_))
}

fn same_place(seen: &ObservedRoute, hop: &Hop) -> bool {
    seen.destination == hop.destination && seen.metric == hop.metric
}
