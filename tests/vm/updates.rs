//! A release comes into the free slot of a disk that was installed: the real program, real releases, a web server, loop
//! devices. The ESP is a folder: not every kernel that runs this has FAT. From there on, machines show it.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use trilith_tests::command::run;
use trilith_tests::machine::in_tools;

mod peers; // from other nodes, before the source
mod world; // the node, the operator, and the updater between them

use crate::releases::done;
use world::{STAGED, World};

/// What a cut of the power may cost: what is not remembered yet, which is looked at each 4 MiB, and what has left the server
/// and waits in sockets while the disk is slow.
const CUT: u64 = (4 + 4) << 20;
/// What the metadata cost is fetched with each start.
const METADATA: u64 = 256 << 10;

#[test]
fn by_every_way_however_often_it_is_cut() -> Result<()> {
    let world = World::new()?;
    let next = world.operator.manifest("1.0-2")?;
    let delta = next.root.deltas[0].download.size;
    let fetched = world.cut_and_fetched(delta / 2)?;
    eprintln!("by deltas: {fetched} bytes, the root's delta has {delta}");
    ensure!(fetched < 8 * delta + 8 * METADATA, "{fetched}");

    world.reset()?;
    world.lose(&[".from"])?;
    let seed = next.root.chunks.as_ref().context("no chunks")?.seeds[0].fetch;
    let fetched = world.cut_and_fetched(seed / 2)?;
    eprintln!("by chunks: {fetched} bytes, the root lacks {seed}");
    ensure!(fetched < next.root.whole.size, "{fetched}");

    world.reset()?;
    world.lose(&[".cba", "chunks"])?;
    let whole = next.root.whole.size + next.verity.whole.size + next.uki.whole.size;
    let fetched = world.cut_and_fetched(next.root.whole.size / 3)?;
    eprintln!("by all of it: {fetched} bytes of {whole}");
    ensure!(fetched < whole + 4 * CUT + 8 * METADATA, "{fetched}");
    Ok(())
}

#[test]
fn from_a_folder_and_of_the_memory_that_it_takes() -> Result<()> {
    let mut world = World::of_size(4_500_000)?;
    world.more.push((world.operator.at("releases"), "/releases"));
    world.wish("/releases", "")?;
    let begin = Instant::now();
    let mut updating = world.update(&[])?;
    let state = updating.until(STAGED)?;
    let peak = updating.peak()?;
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!(
        "a root of 180 MB by deltas: {seconds:.1} s, {} bytes, peak {peak} KiB",
        state.fetched
    );
    drop(updating);
    world.is_staged()?;
    ensure!(peak < 200 << 10, "{peak} KiB");
    Ok(())
}

#[test]
fn nothing_that_was_changed_comes_into_use() -> Result<()> {
    let world = World::new()?;
    // A delta that is changed in one bit: there are other ways.
    world.change("1.0-2.root.from_", 1)?;
    world.update(&[])?.wait(STAGED)?;
    world.is_staged()?;
    world.reset()?;
    // Each of them, in every piece of it.
    world.change("1.0-2.root.", 256)?;
    let state = world.update(&[])?.wait("not updated yet")?;
    let words = state.failed.unwrap_or_default();
    ensure!(words.contains("not what was signed"), "{words}");
    let labels = world.labels()?;
    ensure!(labels[3..5] == ["_empty", "_empty"], "{labels:?}");
    world.boots(&["trilith-6.12.0-0123.efi"])
}

#[test]
fn metadata_that_must_not_count_are_refused() -> Result<()> {
    let world = World::new()?;
    let metadata = world.operator.at("releases/metadata");
    let read = |name: &str| fs::read(metadata.join(name));
    let refresh = |days: &str| -> Result<()> {
        let mut refresh = world.operator.trilith(&["release", "refresh"])?;
        refresh.arg(world.operator.at("releases")).args(["--timestamp-days", days]);
        done(refresh.arg("--identity").arg(world.operator.at("identity")))
    };
    let right = ["--trust-clock"];
    let old = read("timestamp.json")?;
    refresh("30")?;
    let new = read("timestamp.json")?;
    world.update(&right)?.wait(STAGED)?;
    let refused = |words: &str| refuses(&world, words);
    // Older than what was seen.
    fs::write(metadata.join("timestamp.json"), old)?;
    refused("previously fetched version")?;
    fs::write(metadata.join("timestamp.json"), &new)?;
    // By a key that was replaced.
    let mut rotate = world.operator.trilith(&["keys", "rotate", "timestamp"])?;
    rotate.arg("--root-keys").arg(world.operator.at("safe"));
    done(rotate.arg("--identity").arg(world.operator.at("identity")))?;
    fs::copy(world.operator.at("keys/roots/2.root.json"), metadata.join("2.root.json"))?;
    refused("Failed to verify timestamp metadata")?;
    // The same, with the root that says so withheld: it was seen.
    fs::remove_file(metadata.join("2.root.json"))?;
    refused("Failed to verify timestamp metadata")?;
    // Older than what was seen, by the key that counts now.
    refresh("30")?;
    let old = read("timestamp.json")?;
    refresh("30")?;
    world.reset_release()?;
    world.update(&right)?.wait(STAGED)?;
    let new = read("timestamp.json")?;
    fs::write(metadata.join("timestamp.json"), old)?;
    refused("previously fetched version")?;
    fs::write(metadata.join("timestamp.json"), new)?;
    // Expired; but for a clock that nobody has set.
    refresh("0")?;
    refused("timestamp metadata is expired")?;
    let state = world.update(&[])?.wait(STAGED)?;
    ensure!(state.notes.iter().any(|note| note.contains("not synchronised")), "{:?}", state.notes);
    // By somebody else.
    world.reset_release()?;
    world.wish(&world.web.url(), "again: true\n")?;
    let wish = world.at("run/trilith/update/wish.yaml");
    let text = fs::read_to_string(&wish)?.replace(&world.trust()?, &"a".repeat(64));
    fs::write(wish, text)?;
    let state = world.update(&right)?.wait("not updated yet")?;
    let failed = state.failed.unwrap_or_default();
    ensure!(failed.contains("signed by somebody else"), "{failed}");
    Ok(())
}

/// The metadata are refused with these words.
fn refuses(world: &World, words: &str) -> Result<()> {
    world.reset_release()?;
    let state = world.update(&["--trust-clock"])?.wait("not updated yet")?;
    let failed = state.failed.unwrap_or_default();
    ensure!(failed.contains(words), "{failed}");
    Ok(())
}

#[test]
fn an_esp_without_room_is_told_before_anything_is_done() -> Result<()> {
    let world = World::new()?;
    let (esp, system) = (world.at("esp"), "EFI/Linux/trilith-6.12.0-0123.efi");
    let uki = fs::read(esp.join(system))?;
    let options = format!("size={}", uki.len() + (128 << 10));
    mount(Some("tmpfs"), &esp, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?;
    let looked = (|| -> Result<()> {
        world.put(&format!("esp/{system}"), &uki)?;
        let state = world.update(&[])?.wait("refused")?;
        let words = format!("{:?}", state.refused);
        ensure!(words.contains("bytes on the EFI system partition"), "{words}");
        let labels = world.labels()?;
        ensure!(labels[3..5] == ["_empty", "_empty"], "{labels:?}");
        world.boots(&["trilith-6.12.0-0123.efi"])
    })();
    umount2(&esp, MntFlags::MNT_DETACH)?;
    looked
}

/// What firmware shows of itself: four bytes of attributes, and the value.
fn variable(world: &World, name: &str, vendor: &str, value: &[u8]) -> Result<()> {
    world.put(&format!("efivars/{name}-{vendor}"), &[&[7, 0, 0, 0], value].concat())
}

/// A list of one certificate (UEFI 2.10, 32.4.1).
fn list(world: &World, certificate: &str) -> Result<Vec<u8>> {
    let pem = world.operator.at("keys").join(certificate);
    let der = world.at("certificate.der");
    let mut openssl =
        in_tools("openssl", &[world.operator.at("keys").as_path(), world.folder.path()])?;
    openssl.args(["x509", "-outform", "DER", "-in"]).arg(pem).arg("-out").arg(&der);
    run(&mut openssl)?;
    let der = fs::read(der)?;
    let guid: [u8; 16] = [
        0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0,
        0x72,
    ];
    let size = u32::try_from(der.len() + 16)?;
    let numbers = [28 + size, 0, size].map(u32::to_le_bytes).concat();
    Ok([&guid[..], &numbers, &[0; 16], &der].concat())
}

#[test]
fn a_system_is_staged_only_if_the_firmware_would_start_it() -> Result<()> {
    const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
    const IMAGES: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
    let mut world = World::new()?;
    fs::create_dir_all(world.at("efivars"))?;
    world.more.push((world.at("efivars"), "/sys/firmware/efi/efivars"));
    variable(&world, "SecureBoot", GLOBAL, &[1])?;
    let (own, other) = (list(&world, "db.pem")?, list(&world, "KEK.pem")?);
    for (db, dbx, words) in [
        (&other, None, "which is not in the firmware's db"),
        (&own, Some(&own), "which is in the firmware's dbx"),
    ] {
        variable(&world, "db", IMAGES, db)?;
        if let Some(dbx) = dbx {
            variable(&world, "dbx", IMAGES, dbx)?;
        }
        let state = world.update(&[])?.wait("not updated yet")?;
        let failed = state.failed.unwrap_or_default();
        ensure!(failed.contains(words), "{failed}");
        ensure!(!world.at("esp/trilith/staged/trilith_1.0-2.efi").exists(), "it is staged");
    }
    variable(&world, "dbx", IMAGES, &other)?;
    world.update(&[])?.wait(STAGED)?;
    world.is_staged()
}

#[test]
fn a_server_without_ranges_gives_all_of_it() -> Result<()> {
    let world = World::new()?;
    world.lose(&[".from", ".cba", "chunks"])?;
    // So much that it is remembered how much has come.
    world.cut(world.operator.manifest("1.0-2")?.root.whole.size * 3 / 4)?;
    world.web.know_no_ranges();
    world.update(&[])?.wait(STAGED)?;
    world.is_staged()
}

/// What the gate says decides; a program that says yes stands in its place here, the last step is to take the machine down.
#[test]
fn nothing_is_activated_without_the_gates_word() -> Result<()> {
    let mut world = World::new()?;
    world.wish(&world.web.url(), "activate: true\ntrial: 300\n")?;
    let state = world.update(&[])?.wait("not updated yet")?;
    let failed = state.failed.unwrap_or_default();
    ensure!(failed.contains("nobody would know whether it is as good as before"), "{failed}");
    world.is_staged()?;
    world.put("gate", b"#!/bin/sh\necho \"$@\" >/var/lib/trilith-update/asked\n")?;
    run(std::process::Command::new("chmod").arg("755").arg(world.at("gate")))?;
    world.more.push((world.at("gate"), "/usr/lib/trilith/trilith-gate"));
    // Nobody has to be asked for what is staged.
    world.wish(&world.web.url(), "")?;
    let mut updating = world.update(&[])?;
    updating.until(STAGED)?;
    world.web.serve(&world.at("nothing"));
    world.wish(&world.web.url(), "activate: true\ntrial: 300\n")?;
    updating.until("reboot")?;
    drop(updating);
    world.boots(&["trilith-6.12.0-0123.efi", "trilith_1.0-2+3.efi"])?;
    world.web.serve(&world.operator.at("releases"));
    // And what is activated is started, however often that fails.
    let state = world.update(&[])?.wait("not updated yet")?;
    let failed = state.failed.unwrap_or_default();
    ensure!(failed.contains("reboot"), "{failed}");
    let asked = fs::read_to_string(world.at("var/asked"))?;
    ensure!(asked == "remember --version 1.0-2 --limit 300\n", "{asked}");
    world.boots(&["trilith-6.12.0-0123.efi", "trilith_1.0-2+3.efi"])
}
