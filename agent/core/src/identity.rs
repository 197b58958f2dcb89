//! Which of many bundles is this machine's. A medium and a server may carry those of all nodes; the cluster file in them
//! says by what a machine is recognised (`nodes[].match`).
//!
//! Choosing trusts nothing: what is chosen must still be a bundle that its cluster has signed, and whoever changes
//! another one only takes it out of the choice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::bundle;
use crate::config::{self, Config, Match};
use crate::names::{EndorsementKey, HardwareSerial, HardwareUuid, MacAddr};
use crate::network::{ObservedKind, ObservedLink};
use crate::sealed::Sealed;
use crate::sighting::Firmware;

#[cfg(test)]
mod tests;

/// What tells this machine from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The MAC addresses that its NICs came with.
    pub macs: BTreeSet<MacAddr>,
    /// Its serial number (SMBIOS type 1).
    pub serial: Option<String>,
    /// Its UUID (SMBIOS type 1), in lower case.
    pub uuid: Option<String>,
    /// The endorsement key of its TPM, where one has been asked.
    pub tpm: Option<EndorsementKey>,
}

/// By what a machine was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// The address of one of its NICs.
    Mac(MacAddr),
    /// Its serial number.
    Serial(HardwareSerial),
    /// Its UUID.
    Uuid(HardwareUuid),
    /// The endorsement key of its TPM.
    Tpm,
}

/// One of many bundles, unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What it is called where it lies, for people.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The one that is for this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// Which.
    pub offer: &'a Offer,
    /// Why.
    pub mark: Mark,
}

/// Why none is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoChoice {
    /// None of them names this machine.
    #[error("none of the {of} bundles there is for this machine{}{}", of_others(.sealed), and_broken(.broken))]
    None {
        /// How many there are.
        of: usize,
        /// Those that another TPM could open, by their nodes.
        sealed: Vec<String>,
        /// Those that cannot be read.
        broken: Vec<String>,
    },
    /// More than one does.
    #[error("{} are both for this machine; write into each node's `match` what it alone has", .0.join(" and "))]
    Several(Vec<String>),
}

fn of_others(sealed: &[String]) -> String {
    if sealed.is_empty() {
        return String::new();
    }
    format!(" (sealed to TPMs of others: {})", sealed.join(", "))
}

fn and_broken(broken: &[String]) -> String {
    if broken.is_empty() {
        return String::new();
    }
    format!(" ({} cannot be read as bundles)", broken.join(", "))
}

impl Machine {
    /// The machine with this firmware and these links; only NICs count.
    pub fn new(firmware: &Firmware, links: &[ObservedLink], tpm: Option<EndorsementKey>) -> Self {
        let nics = links.iter().filter(|link| link.kind == ObservedKind::Nic);
        let word = |word: &Option<String>| Some(word.as_deref()?.trim().to_owned());
        Self {
            macs: nics.filter_map(|nic| nic.permanent_mac.or(nic.mac)).collect(),
            serial: word(&firmware.serial),
            uuid: word(&firmware.uuid).map(|uuid| uuid.to_lowercase()),
            tpm,
        }
    }

    /// By what a rule recognises this machine, if it does.
    pub fn fits(&self, rule: &Match) -> Option<Mark> {
        let Match { macs, serial, uuid, tpm } = rule;
        let mac = macs.iter().find(|mac| self.macs.contains(mac)).map(|mac| Mark::Mac(*mac));
        let serial = serial.as_ref().filter(|it| self.serial.as_deref() == Some(it.as_str()));
        let uuid = uuid.as_ref().filter(|it| self.uuid.as_deref() == Some(it.as_str()));
        let tpm = tpm.as_ref().filter(|it| self.tpm.as_ref() == Some(it)).map(|_| Mark::Tpm);
        mac.or_else(|| serial.cloned().map(Mark::Serial))
            .or_else(|| uuid.cloned().map(Mark::Uuid))
            .or(tpm)
    }
}

/// Chooses the one bundle whose node this machine is.
///
/// # Errors
/// There is none, or more than one: nobody guesses.
pub fn choose<'a>(machine: &Machine, offers: &'a [Offer]) -> Result<Chosen<'a>, NoChoice> {
    // All bundles of a cluster carry the same cluster file: it is read once.
    let mut configs: BTreeMap<String, Option<Config>> = BTreeMap::new();
    let (mut fitting, mut sealed, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    for offer in offers {
        if let Some(other) = Sealed::parse(&offer.text) {
            sealed.push(other.name.to_string());
            continue;
        }
        let Some((node, cluster)) = bundle::peek(&offer.text) else {
            broken.push(offer.name.clone());
            continue;
        };
        let config = configs.entry(cluster).or_insert_with_key(|text| config::load(text).ok());
        let Some(config) = config else {
            broken.push(offer.name.clone());
            continue;
        };
        let mark = config.node(node).and_then(|node| machine.fits(&node.matches));
        fitting.extend(mark.map(|mark| Chosen { offer, mark }));
    }
    match fitting.len() {
        0 => Err(NoChoice::None { of: offers.len(), sealed, broken }),
        1 => Ok(fitting.remove(0)),
        _ => {
            let name = |Chosen { offer, mark }: &Chosen<'_>| format!("{} ({mark})", offer.name);
            Err(NoChoice::Several(fitting.iter().map(name).collect()))
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "by the MAC address {mac}"),
            Self::Serial(serial) => write!(f, "by the serial number {serial}"),
            Self::Uuid(uuid) => write!(f, "by the UUID {uuid}"),
            Self::Tpm => f.write_str("by its TPM"),
        }
    }
}
