//! What a node without a bundle tells the person in front of it: which machine it is, in words that can go into
//! the cluster file as they are.

use std::fmt::Write as _;

use crate::names::{EndorsementKey, HardwareUuid, MacAddr};
use crate::network::{ObservedKind, ObservedLink};

/// What firmware writes when its maker did not: such a text tells no machine from another.
const PLACEHOLDERS: [&str; 9] = [
    "to be filled by o.e.m.",
    "default string",
    "system serial number",
    "not specified",
    "none",
    "not applicable",
    "unknown",
    "0123456789",
    "0",
];

/// The machine as its firmware describes it (SMBIOS type 1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firmware {
    /// Maker.
    pub vendor: Option<String>,
    /// Model.
    pub product: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// UUID.
    pub uuid: Option<String>,
}

/// A machine, and where it looked for a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// What the firmware says.
    pub firmware: Firmware,
    /// Its links; only NICs count.
    pub links: Vec<ObservedLink>,
    /// The endorsement key of its TPM, where one has been asked.
    pub tpm: Option<EndorsementKey>,
    /// Where a bundle was looked for, in order, each with what was found there.
    pub places: Vec<String>,
}

impl Sighting {
    /// The text for the console: what to do, what was seen, and the lines for the cluster file.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "\nThis node has no node bundle. It leaves disks and networks alone.\nLooked for one:\n",
        );
        // Writing to a `String` cannot fail.
        for place in &self.places {
            let _ = writeln!(text, "  {place}");
        }
        let words = |word: &Option<String>| useful(word.as_deref()).unwrap_or("unknown").to_owned();
        let firmware = &self.firmware;
        let _ =
            writeln!(text, "Machine: {}, {}", words(&firmware.vendor), words(&firmware.product));
        let _ =
            writeln!(text, "  serial {}, UUID {}", words(&firmware.serial), words(&firmware.uuid));
        self.nics_as_table(&mut text);
        self.node_as_yaml(&mut text);
        text
    }

    fn nics(&self) -> impl Iterator<Item = &ObservedLink> {
        self.links.iter().filter(|link| link.kind == ObservedKind::Nic)
    }

    fn nics_as_table(&self, text: &mut String) {
        if self.nics().next().is_none() {
            text.push_str("NICs: none seen yet\n");
            return;
        }
        text.push_str("NICs:\n");
        for nic in self.nics() {
            let mac = nic
                .permanent_mac
                .or(nic.mac)
                .map_or_else(|| "no MAC address".into(), |mac| mac.to_string());
            let driver = nic.driver.as_deref().unwrap_or("unknown driver");
            let pci = nic.pci.as_deref().unwrap_or("no PCI address");
            let _ = writeln!(
                text,
                "  {:<15} {mac}  {driver}, {pci}, {}",
                nic.name.as_str(),
                state(nic)
            );
        }
    }

    fn node_as_yaml(&self, text: &mut String) {
        let macs = self.nics().filter_map(|nic| nic.permanent_mac.or(nic.mac));
        text.push_str(&self.firmware.node_as_yaml(macs));
        if let Some(tpm) = &self.tpm {
            let _ = writeln!(text, "      tpm: {tpm}");
        }
        text.push('\n');
    }
}

impl Firmware {
    /// The lines for the cluster file, of a machine whose NICs came with these addresses.
    pub fn node_as_yaml(&self, macs: impl IntoIterator<Item = MacAddr>) -> String {
        let mut text =
            String::from("For the cluster file, with an ID and a name of your choice:\n\n");
        text.push_str("nodes:\n  - id: 1\n    name: node1\n    match:\n");
        let macs: Vec<_> = macs.into_iter().map(|mac| format!("\"{mac}\"")).collect();
        if !macs.is_empty() {
            let _ = writeln!(text, "      mac: [{}]", macs.join(", "));
        }
        if let Some(serial) = useful(self.serial.as_deref()) {
            let _ = writeln!(text, "      serial: {}", quoted(serial));
        }
        let uuid = useful(self.uuid.as_deref()).map(str::to_lowercase);
        if let Some(uuid) = uuid.and_then(|uuid| HardwareUuid::try_from(uuid).ok()) {
            let _ = writeln!(text, "      uuid: {uuid}");
        }
        text
    }
}

fn state(nic: &ObservedLink) -> &'static str {
    match (nic.up, nic.carrier) {
        (true, true) => "cable connected",
        (true, false) => "no cable",
        (false, _) => "down",
    }
}

/// A text of the firmware, if it says anything.
fn useful(text: Option<&str>) -> Option<&str> {
    let text = text?.trim();
    let empty = text.is_empty() || text.chars().all(|c| matches!(c, '0' | '-' | 'F' | 'f' | ' '));
    (!empty && !PLACEHOLDERS.contains(&text.to_lowercase().as_str())).then_some(text)
}

/// A double-quoted YAML scalar: every serial number stays a text, also one that looks like a number.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "BMrUWaKAArY5TNAMFX4A9d3lz1yIAmnTEQ/yuVyRbV9xR0E5Rhy5e9ke2fDy4Mbr2F3RmEmFMTzzy2fcpR2y6WU=";

    fn nic(name: &str, mac: &str) -> ObservedLink {
        serde_yaml::from_str(&format!(
            "{{name: {name}, kind: nic, mac: '{mac}', driver: virtio_net, pci: '0000:00:03.0'}}"
        ))
        .unwrap()
    }

    fn sighting() -> Sighting {
        Sighting {
            firmware: Firmware {
                vendor: Some("QEMU".into()),
                product: Some("Standard PC (Q35 + ICH9, 2009)".into()),
                serial: Some("00123\"4".into()),
                uuid: Some("1B4E28BA-2FA1-11D2-883F-0016D3CCA427".into()),
            },
            links: vec![
                nic("enp0s3", "52:54:00:12:34:56"),
                nic("enp0s4", "52:54:00:12:34:57"),
                serde_yaml::from_str("{name: lo, kind: !other loopback}").unwrap(),
            ],
            tpm: Some(KEY.to_owned().try_into().unwrap()),
            places: vec![
                "credential: none".into(),
                "medium: none of the 3 bundles there is for this machine".into(),
            ],
        }
    }

    #[test]
    fn a_person_can_paste_what_was_seen() {
        let expected = r#"
This node has no node bundle. It leaves disks and networks alone.
Looked for one:
  credential: none
  medium: none of the 3 bundles there is for this machine
Machine: QEMU, Standard PC (Q35 + ICH9, 2009)
  serial 00123"4, UUID 1B4E28BA-2FA1-11D2-883F-0016D3CCA427
NICs:
  enp0s3          52:54:00:12:34:56  virtio_net, 0000:00:03.0, down
  enp0s4          52:54:00:12:34:57  virtio_net, 0000:00:03.0, down
For the cluster file, with an ID and a name of your choice:

nodes:
  - id: 1
    name: node1
    match:
      mac: ["52:54:00:12:34:56", "52:54:00:12:34:57"]
      serial: "00123\"4"
      uuid: 1b4e28ba-2fa1-11d2-883f-0016d3cca427
      tpm: BMrUWaKAArY5TNAMFX4A9d3lz1yIAmnTEQ/yuVyRbV9xR0E5Rhy5e9ke2fDy4Mbr2F3RmEmFMTzzy2fcpR2y6WU=

"#;
        assert_eq!(sighting().text(), expected);
    }

    #[test]
    fn what_the_maker_left_blank_is_not_offered() {
        let mut sighting = sighting();
        for blank in [
            "",
            " ",
            "Default string",
            "To Be Filled By O.E.M.",
            "00000000-0000-0000-0000-000000000000",
        ] {
            sighting.firmware.serial = Some(blank.into());
            sighting.firmware.uuid = Some(blank.into());
            let text = sighting.text();
            assert!(text.contains("serial unknown, UUID unknown"), "{text}");
            assert!(!text.contains("serial:") && !text.contains("uuid:"), "{text}");
        }
    }
}
