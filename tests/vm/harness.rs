//! What the other tests lean on, with a machine that has nothing but its firmware, which then starts a shell.

use std::io::Write as _;

use anyhow::{Result, ensure};
use trilith_tests::installed::is_untouched;
use trilith_tests::machine::{Bus, Disk, Machine, REACTION, Spec};

#[test]
fn a_frozen_machine_goes_on_as_often_as_wanted() -> Result<()> {
    let mut spec = Spec::new("frozen");
    spec.memory = 256;
    spec.slots = 1;
    let machine = Machine::start(spec)?;
    machine.console().wait("Shell>", REACTION)?;
    let mut hardware = machine.freeze()?;
    for _ in 0..2 {
        let mut machine = hardware.thaw()?;
        let disk = Disk::empty("LATE", Bus::Virtio, 1);
        machine.plug_disk(0, &disk)?;
        ensure!(machine.written(0)? == 0);
        let keyboard = machine.keyboard()?;
        keyboard.write_all(b"ver\r")?;
        keyboard.flush()?;
        machine.console().wait("UEFI Interactive Shell", REACTION)?;
        hardware = machine.kill();
        ensure!(is_untouched(&hardware.file_of(&disk))?);
    }
    Ok(())
}
