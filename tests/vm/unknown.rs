//! A machine that no bundle has told who it is.

use anyhow::Result;
use trilith_tests::artifact;
use trilith_tests::machine::{BOOT, Disk, Machine, Nic, Place, REACTION, Spec, UUID};
use trilith_tests::network::Network;

use crate::screen::Terminal;

/// It says on the console what a person needs to write it into the cluster file, touches nothing, and waits. A person who
/// comes to the console finds the same on its screen, and can start the machine again, if that is what is wanted.
#[test]
fn without_a_bundle_the_console_says_what_it_saw() -> Result<()> {
    let network = Network::isolate()?;
    network.switch("sw0")?.tap("tap0")?;
    let mac = "52:54:00:00:63:01";
    let mut machine = Machine::start(Spec {
        disks: vec![Disk::of(artifact::image()?)],
        nics: vec![Nic { mac: mac.into(), tap: "tap0".into(), place: Place::Slot }],
        ..Spec::new("unknown")
    })?;
    let console = machine.console();
    console.wait("no node bundle", BOOT)?;
    for seen in [mac, UUID, "unknown"] {
        console.wait(seen, REACTION)?;
    }
    let mut terminal = Terminal::attach(&mut machine, "unknown")?;
    terminal.shows(&["this machine does not know who it is", "no node bundle", mac], "")?;
    terminal.keep("status")?;
    terminal.picture()?;
    terminal.press(b"r")?;
    terminal.shows(&["Start this machine again?"], "")?;
    terminal.press(b"y")?;
    terminal.wait_reset()
}
