//! The network cards of a machine: where they sit, how QEMU is told.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

/// A network card and the cable in it.
#[derive(Debug, Clone)]
pub struct Nic {
    /// The Ethernet address, `52:54:00:00:01:01`.
    pub mac: String,
    /// The tap that its cable ends in, made by [`crate::network::Switch::tap`].
    pub tap: String,
    /// Where it sits.
    pub place: Place,
}

/// Where a NIC sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a slot of its own, out of which it can be pulled.
    Slot,
    /// On the bus of this number, as function of the device 0: `0000:3b:00.1`.
    Path {
        /// The bus.
        bus: u8,
        /// The function.
        function: u8,
    },
}

impl Place {
    /// Reads a PCI address as Linux writes it.
    pub fn at(path: &str) -> Result<Self> {
        let parts = path.strip_prefix("0000:").and_then(|rest| rest.split_once(":00."));
        let (bus, function) = parts.with_context(|| format!("no place for a NIC at {path}"))?;
        Ok(Self::Path { bus: u8::from_str_radix(bus, 16)?, function: function.parse()? })
    }
}

/// QEMU's arguments for all of them. None has an option ROM: what starts from the network is the firmware's own stack.
pub(super) fn arguments(nics: &[Nic]) -> String {
    let mut all = String::new();
    let mut add = |text: &str| {
        all += text;
        all.push(' ');
    };
    let mut buses = BTreeSet::new();
    for (number, nic) in nics.iter().enumerate() {
        add(&format!("-netdev tap,id=net{number},ifname={},script=no,downscript=no", nic.tap));
        let bus = match nic.place {
            Place::Slot => {
                add(&super::slot(number));
                format!("slot{number}")
            }
            Place::Path { bus, function } => {
                if buses.insert(bus) {
                    add(&port_to(bus));
                }
                format!("bus{bus},addr=0.{function},multifunction=on")
            }
        };
        // LACP bonds only ports whose speed and duplex it knows.
        let device = format!("virtio-net-pci,id=nic{number},netdev=net{number},mac={}", nic.mac);
        add(&format!("-device {device},speed=10000,duplex=full,romfile=,bus={bus}"));
    }
    all
}

/// A port of PCI Express with this bus behind it. The firmware numbers buses as it finds them: the first port of the
/// first root bus leads to bus 1, and the first port of a further root bus to the bus after that.
fn port_to(bus: u8) -> String {
    let port = format!("-device pcie-root-port,id=bus{bus},chassis={bus},slot={bus}");
    match bus.checked_sub(1) {
        None | Some(0) => format!("{port},bus=pcie.0"),
        Some(root) => {
            format!("-device pxb-pcie,id=root{bus},bus_nr={root},bus=pcie.0 {port},bus=root{bus}")
        }
    }
}
