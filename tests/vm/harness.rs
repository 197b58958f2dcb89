//! What the other tests lean on, with a machine that has nothing but its firmware, and with none.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use gpt::GptConfig;
use trilith_tests::artifact;
use trilith_tests::build::Build;
use trilith_tests::command::{output, run};
use trilith_tests::installed::{Found, is_untouched, look, make_osd};
use trilith_tests::laid::lay;
use trilith_tests::machine::{Bus, Content, Disk, Hardware, Machine, REACTION, Spec, in_tools};
use trilith_tests::operator::{Operator, sign_as_a_stranger};
use trilith_tests::uki::Uki;

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
    let folder = tempfile::tempdir_in(artifact::machines()?)?;
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

/// What is written to a machine's twin is not on its own disk, and the other way round.
#[test]
fn a_twin_has_disks_of_its_own() -> Result<()> {
    let mut spec = Spec::new("twins");
    spec.disks = vec![Disk::empty("DISK", Bus::Virtio, 1)];
    let first = Hardware::assemble(spec)?;
    let second = first.twin("twins-second")?;
    let third = second.twin("twins-third")?;
    let written = |twin: &Hardware, what: &str| -> Result<()> {
        let mut qemu_io = in_tools("qemu-io", &[folder_of_all(twin)?])?;
        qemu_io.args(["-f", "qcow2", "-c", what]).arg(twin.file("DISK")?);
        let said = run(&mut qemu_io)?;
        ensure!(!said.contains("failed"), "{what}: {said}");
        Ok(())
    };
    written(&second, "write -P 2 0 4k")?;
    written(&third, "read -P 2 0 4k")?;
    written(&third, "write -P 3 0 4k")?;
    written(&second, "read -P 2 0 4k")?;
    ensure!(is_untouched(&first.file("DISK")?)?, "the first one was written to");
    Ok(())
}

fn folder_of_all(hardware: &Hardware) -> Result<&std::path::Path> {
    hardware.folder().parent().context("a machine's folder is in none")
}

/// A disk that is laid has what an installation leaves; a UKI that is put together again starts where it is signed, and not
/// where a stranger has.
#[test]
fn a_disk_is_laid_and_its_system_broken() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let build = Build::make(&folder.path().join("build"), "1.0-1", "one")?;
    let operator = Operator::new()?;
    operator.release_all(&[&build.path("raw")])?;
    let disk = folder.path().join("disk.raw");
    File::create(&disk)?.set_len(32 << 30)?;
    lay(&disk, &operator, &build.path("raw"), true)?;
    let table = GptConfig::new().open(&disk)?;
    let parts: Vec<_> = table.partitions().values().collect();
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    let slots = ["trilith_1.0-1", "trilith_1.0-1", "_empty", "_empty"];
    ensure!(names[1..5] == slots && names[5] == "trilith-var", "{names:?}");
    let uuids = format!("{}{}", parts[1].part_guid, parts[2].part_guid).replace('-', "");
    ensure!(uuids == build.hash, "{uuids} is not {}", build.hash);
    let esp = format!("{}@@{}", disk.display(), parts[0].first_lba * 512);
    for path in ["EFI/Linux/trilith_1.0-1.efi", "EFI/BOOT/BOOTX64.EFI", "loader/keys/auto/PK.auth"]
    {
        let mut mdir = in_tools("mdir", &[folder.path()])?;
        run(mdir.args(["-b", "-i", &esp, &format!("::/{path}")]))?;
    }

    let manifest = operator.manifest(&"1.0-1".parse()?)?;
    let mut uki = Uki::parse(&operator.whole(&manifest.uki)?)?;
    let line = uki.command_line()?;
    ensure!(line.contains(&format!("roothash={}", build.hash)), "{line}");
    uki.set_command_line(&format!("{line} panic=1"));
    uki.add_to_initrd("/usr/lib/fault", 0o755, "exit 1");
    uki.link_in_initrd("/usr/lib/more", "fault");
    let broken = uki.build(folder.path(), "broken.efi")?;
    let initrd = Uki::parse(&fs::read(&broken)?)?;
    ensure!(initrd.command_line()?.ends_with("panic=1"));
    for (by_us, signed) in [(false, false), (true, true)] {
        if by_us {
            operator.sign(&broken)?;
        } else {
            sign_as_a_stranger(&broken)?;
        }
        let mut sbverify = in_tools("sbverify", &[folder.path(), &operator.keys()])?;
        let certificate = operator.keys().join("db.pem");
        let said = output(sbverify.arg("--cert").arg(certificate).arg(&broken))?;
        ensure!(said.status.success() == signed, "{}", String::from_utf8_lossy(&said.stderr));
    }
    Ok(())
}
