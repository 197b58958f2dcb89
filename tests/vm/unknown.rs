//! A machine that no bundle has told who it is.

use anyhow::Result;
use trilith_tests::artifact;
use trilith_tests::machine::{BOOT, Machine, Media, Nic, Place, REACTION, Spec, UUID};
use trilith_tests::network::Network;

/// It says on the console what a person needs to write it into the cluster file, touches nothing, and waits.
#[test]
fn without_a_bundle_the_console_says_what_it_saw() -> Result<()> {
    let network = Network::isolate()?;
    network.switch("sw0")?.tap("tap0")?;
    let mac = "52:54:00:00:63:01";
    let machine = Machine::start(Spec {
        name: "unknown".into(),
        image: artifact::image()?,
        media: Media::Disk,
        bundle: None,
        nics: vec![Nic { mac: mac.into(), tap: "tap0".into(), place: Place::Slot }],
    })?;
    let console = machine.console();
    console.wait("no node bundle", BOOT)?;
    for seen in [mac, UUID, "unknown"] {
        console.wait(seen, REACTION)?;
    }
    Ok(())
}
