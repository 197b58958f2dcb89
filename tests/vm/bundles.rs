//! What is on a medium and not for this machine, or not as its cluster signed it. One boot: the machine becomes another one
//! by the NICs that are plugged into it.

use anyhow::Result;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::machine::{BOOT, Bus, Disk, Machine, Nic, Place, REACTION, Spec};
use trilith_tests::medium::{replace, spoil};
use trilith_tests::network::Network;

/// The NICs of the three nodes, and one of nobody.
const MACS: [&str; 4] =
    ["52:54:00:00:63:01", "52:54:00:00:01:00", "52:54:00:00:02:00", "52:54:00:00:03:00"];

#[test]
fn no_spoiled_bundle_is_taken_nor_one_of_two() -> Result<()> {
    let network = Network::isolate()?;
    let switch = network.switch("sw0")?;
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    let medium = cluster.medium(&artifact::image()?)?;
    spoil(&medium, "1.yaml", |text| replace(text, "mtu: 1500", "mtu: 1400"))?;
    spoil(&medium, "2.yaml", |text| {
        text.iter_mut().skip(700).for_each(|byte| *byte = b'\n');
        Ok(())
    })?;
    spoil(&medium, "3.yaml", |text| replace(text, "# signature: ", "# signatura: "))?;
    let mut nics = Vec::new();
    for (number, mac) in MACS.iter().enumerate() {
        switch.tap(&format!("tap{number}"))?;
        nics.push(Nic { mac: (*mac).into(), tap: format!("tap{number}"), place: Place::Slot });
    }
    let mut machine = Machine::start(Spec {
        disks: vec![Disk::medium(medium, Bus::Usb)],
        nics: vec![nics.remove(0)],
        slots: 3,
        ..Spec::new("stranger")
    })?;
    says(&machine, "medium: refused: none of the 3 bundles there is for this machine", "")?;
    says(&machine, "(2.yaml cannot be read as bundles)", "half of a bundle is none")?;
    says(&machine, &format!("mac: [\"{}\"]", MACS[0]), "it says what to write for it")?;

    machine.plug_nic(0, &nics[0])?;
    says(&machine, "the bundle was changed after", "a changed bundle is refused")?;
    machine.plug_nic(2, &nics[2])?;
    says(&machine, "are both for this machine", "nobody guesses")?;
    machine.unplug_nic(0)?;
    says(&machine, "the bundle is not signed", "an unsigned bundle is refused")
}

/// Waits for words on the console, and tells what they mean.
fn says(machine: &Machine, words: &str, meaning: &str) -> Result<()> {
    let patience = if meaning.is_empty() { BOOT } else { REACTION };
    let line = machine.console().wait(words, patience)?;
    eprintln!("{meaning}: {line}");
    Ok(())
}
