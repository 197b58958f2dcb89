//! What the other tests lean on, with a machine that has nothing but its firmware, and with none.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use trilith_tests::artifact;
use trilith_tests::command::run;
use trilith_tests::installed::{Found, is_untouched, look, make_osd};
use trilith_tests::machine::{Bus, Content, Disk, Machine, REACTION, Spec};

/// The firmware finds nothing to start and offers a shell.
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

/// The release's own image is as good as an installed disk; one whose root is spoiled is refused.
#[test]
fn a_disk_is_judged_by_what_is_on_it() -> Result<()> {
    let folder = tempfile::tempdir_in(artifact::target().canonicalize()?.join("vm"))?;
    let file = folder.path().join("disk.raw");
    let disk = Disk::new("DISK", Bus::Virtio, Content::Raw(file.clone()));
    File::create(&file)?.set_len(1 << 30)?;
    ensure!(is_untouched(&file)?);
    ensure!(look(&disk, &file)? == Found::Nothing);
    make_osd(&file)?;
    ensure!(look(&disk, &file)? == Found::Nothing);

    run(Command::new("cp").arg("--sparse=always").arg(artifact::image()?).arg(&file))?;
    ensure!(look(&disk, &file)? == Found::Release);
    let middle = file.metadata()?.len() / 2;
    let written = File::options().write(true).open(&file)?;
    written.write_all_at(b"spoiled", middle)?;
    let error = look(&disk, &file).err().context("a spoiled root was not seen")?;
    ensure!(error.to_string().contains("its root is not the release's"), "{error:#}");
    Ok(())
}
