//! The changes, and how people read them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::desired::{Bond, BondMode, LacpRate, XmitHashPolicy};
use crate::names::{IfName, VlanId};

/// One change. Links are named as the kernel names them; the adapter looks the number up when it acts, so
/// that no step needs the result of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write a kernel parameter.
    SetSysctl {
        /// The path below /proc/sys.
        path: String,
        /// The new value.
        value: String,
    },
    /// Make a link that carries the agent's mark and is up.
    CreateLink {
        /// Its name.
        name: IfName,
        /// What it is.
        kind: NewLink,
        /// Its MTU in bytes.
        mtu: u32,
    },
    /// Remove a link that the agent made.
    DeleteLink(IfName),
    /// Put the agent's mark on a link that was there before.
    MarkLink(IfName),
    /// Give a NIC back: out of its bond or bridge, down, without the mark.
    ReleaseLink(IfName),
    /// Make a link a port of a bond or bridge, or of none.
    SetMaster {
        /// The port.
        port: IfName,
        /// Its new bond or bridge.
        master: Option<IfName>,
    },
    /// Set a link up.
    SetUp(IfName),
    /// Set a link down.
    SetDown(IfName),
    /// Set a link's MTU.
    SetMtu {
        /// The link.
        link: IfName,
        /// The MTU in bytes.
        mtu: u32,
    },
    /// Change parameters of a bond.
    SetBond {
        /// The bond.
        link: IfName,
        /// The parameters that differ.
        options: Vec<BondOption>,
    },
    /// Add an address that carries the agent's mark, and tell the neighbours (IPv4).
    AddAddress {
        /// The link.
        link: IfName,
        /// The address with its prefix length.
        address: IpNet,
    },
    /// Remove an address that the agent added.
    RemoveAddress {
        /// The link.
        link: IfName,
        /// The address with its prefix length.
        address: IpNet,
    },
    /// Ask on the links whether anybody has these IPv4 addresses, all at once.
    Probe(Vec<(IfName, Ipv4Addr)>),
    /// Add a route that carries the agent's mark.
    AddRoute(Hop),
    /// Put a route in the place of the agent's own to the same destination, without a gap.
    ReplaceRoute(Hop),
    /// Remove a route that the agent added.
    RemoveRoute(Hop),
}

/// What a link to be made is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewLink {
    /// A bond; its primary is set once that is a port.
    Bond(Bond),
    /// A VLAN.
    Vlan {
        /// The link below.
        parent: IfName,
        /// The tag.
        id: VlanId,
    },
    /// A bridge.
    Bridge,
}

/// A parameter of a bond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BondOption {
    /// Only while the bond is down and has no ports.
    Mode(BondMode),
    /// In milliseconds.
    Miimon(u32),
    /// Only while the bond is down.
    LacpRate(LacpRate),
    /// At any time.
    XmitHashPolicy(XmitHashPolicy),
    /// By kernel name; `None` takes the preference away.
    Primary(Option<IfName>),
}

/// A route as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Where it leads.
    pub destination: IpNet,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The link's kernel name.
    pub link: IfName,
    /// The metric.
    pub metric: u32,
    /// The largest packet in bytes, if it is less than the link's MTU.
    pub mtu: Option<u32>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetSysctl { path, value } => write!(f, "set {path} to {value}"),
            Self::CreateLink { name, kind, mtu } => write!(f, "create {kind} as {name}, MTU {mtu}"),
            Self::DeleteLink(name) => write!(f, "delete link {name}"),
            Self::MarkLink(name) => write!(f, "mark link {name} as managed"),
            Self::ReleaseLink(name) => write!(f, "release link {name}: down and unmanaged"),
            Self::SetMaster { port, master: Some(master) } => write!(f, "put {port} into {master}"),
            Self::SetMaster { port, master: None } => {
                write!(f, "take {port} out of its bond or bridge")
            }
            Self::SetUp(name) => write!(f, "set {name} up"),
            Self::SetDown(name) => write!(f, "set {name} down"),
            Self::SetMtu { link, mtu } => write!(f, "set MTU of {link} to {mtu}"),
            Self::SetBond { link, options } => write!(f, "set {} of {link}", list(options)),
            Self::AddAddress { link, address } => write!(f, "add {address} to {link}"),
            Self::RemoveAddress { link, address } => write!(f, "remove {address} from {link}"),
            Self::Probe(targets) => {
                let targets = targets.iter().map(|(link, address)| format!("{address} on {link}"));
                write!(f, "ask who has {}", targets.collect::<Vec<_>>().join(", "))
            }
            Self::AddRoute(hop) => write!(f, "add route {hop}"),
            Self::ReplaceRoute(hop) => write!(f, "replace route {hop}"),
            Self::RemoveRoute(hop) => write!(f, "remove route {hop}"),
        }
    }
}

fn list(options: &[BondOption]) -> String {
    options.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for NewLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bond(Bond { mode, .. }) => write!(f, "bond ({mode})"),
            Self::Vlan { parent, id } => write!(f, "VLAN {id} on {parent}"),
            Self::Bridge => f.write_str("bridge"),
        }
    }
}

impl fmt::Display for BondOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mode(mode) => write!(f, "mode {mode}"),
            Self::Miimon(millis) => write!(f, "miimon {millis}"),
            Self::LacpRate(rate) => write!(f, "LACP rate {rate}"),
            Self::XmitHashPolicy(policy) => write!(f, "hash policy {policy}"),
            Self::Primary(Some(port)) => write!(f, "primary {port}"),
            Self::Primary(None) => f.write_str("primary none"),
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { destination, gateway, link, metric, mtu } = self;
        if destination.prefix_len() == 0 {
            let family = if matches!(destination, IpNet::V4(_)) { "IPv4" } else { "IPv6" };
            write!(f, "default ({family})")?;
        } else {
            destination.fmt(f)?;
        }
        if let Some(gateway) = gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " on {link}")?;
        if *metric > 0 {
            write!(f, " metric {metric}")?;
        }
        mtu.map_or(Ok(()), |mtu| write!(f, " MTU {mtu}"))
    }
}
